//! Creating the table, where that was asked for.
//!
//! AWS takes seconds for it, longer than a call may take. So every call looks how far it is, goes on from there, and ends at
//! its own deadline; the table goes on being created meanwhile.

use std::time::Duration;

use aws_sdk_dynamodb::Client as Sdk;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use cachekit_plugin::{HostServices, Kind, LogLevel};

use crate::error::Trouble;
use crate::item::Layout;

/// Between two looks at a table that is being created.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Sees to it that the table is there, if `create` says so.
pub(crate) async fn ensure(sdk: &Sdk, layout: &Layout, create: bool, host: &HostServices) -> Result<(), Trouble> {
    if !create {
        return Ok(());
    }
    loop {
        match sdk.describe_table().table_name(&layout.table).send().await.map_err(Trouble::of) {
            Ok(answer) => {
                let table = answer.table.ok_or(Trouble::Corrupt("DynamoDB describes no table"))?;
                match table.table_status {
                    Some(TableStatus::Active | TableStatus::Updating) => {
                        is_ours(&table, layout)?;
                        break;
                    }
                    Some(TableStatus::Creating) => tokio::time::sleep(LOOK_AGAIN).await,
                    _ => return Err(Trouble::Creating),
                }
            }
            Err(trouble) if trouble.is("ResourceNotFoundException") => begin(sdk, layout, host).await?,
            Err(trouble) => return Err(trouble),
        }
    }
    match expire(sdk, layout).await {
        Ok(()) => Ok(()),
        // Expired entries are misses all the same; they only go on being stored.
        Err(trouble) if matches!(trouble.kind(), Kind::Auth | Kind::Config) => {
            let (target, text) = ("cachekit.dynamodb", "DynamoDB does not remove what has expired");
            host.log(LogLevel::Warn, target, text, &[("table", &layout.table), ("reason", &trouble.to_string())]);
            Ok(())
        }
        Err(trouble) => Err(trouble),
    }
}

async fn begin(sdk: &Sdk, layout: &Layout, host: &HostServices) -> Result<(), Trouble> {
    let wrong = |_| Trouble::Corrupt("the SDK cannot describe the table");
    let attribute = AttributeDefinition::builder().attribute_name(&layout.key).attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder().attribute_name(&layout.key).key_type(KeyType::Hash);
    let answer = sdk
        .create_table()
        .table_name(&layout.table)
        .attribute_definitions(attribute.build().map_err(wrong)?)
        .key_schema(schema.build().map_err(wrong)?)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .map_err(Trouble::of);
    match answer {
        Ok(_) => {
            host.log(LogLevel::Info, "cachekit.dynamodb", "creating the table", &[("table", &layout.table)]);
            Ok(())
        }
        // Another process was faster.
        Err(trouble) if trouble.is("ResourceInUseException") => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

/// Refuses a table of another form, by the name of what differs.
fn is_ours(table: &TableDescription, layout: &Layout) -> Result<(), Trouble> {
    let [key] = table.key_schema() else {
        return Err(Trouble::Refused(format!("table = {:?}: has a sort key, which entries have not", layout.table)));
    };
    let mut attributes = table.attribute_definitions().iter();
    let text = attributes
        .any(|attribute| attribute.attribute_name == layout.key && attribute.attribute_type == ScalarAttributeType::S);
    if key.attribute_name != layout.key || !text {
        let what = format!("table = {:?}: its partition key is not a string named {:?}", layout.table, layout.key);
        return Err(Trouble::Refused(format!("{what}; key_attribute names it")));
    }
    Ok(())
}

/// Has DynamoDB remove what has expired.
async fn expire(sdk: &Sdk, layout: &Layout) -> Result<(), Trouble> {
    let answer = sdk.describe_time_to_live().table_name(&layout.table).send().await.map_err(Trouble::of)?;
    let found = answer.time_to_live_description;
    let status = found.as_ref().and_then(|found| found.time_to_live_status.clone());
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return match found.and_then(|found| found.attribute_name) {
            Some(name) if name != layout.ttl => Err(Trouble::Refused(format!(
                "ttl_attribute = {:?}: the table {:?} expires by {name:?}",
                layout.ttl, layout.table
            ))),
            _ => Ok(()),
        };
    }
    let wanted = TimeToLiveSpecification::builder().attribute_name(&layout.ttl).enabled(true).build();
    let wanted = wanted.map_err(|_| Trouble::Corrupt("the SDK cannot describe the expiry"))?;
    let asked = sdk.update_time_to_live().table_name(&layout.table).time_to_live_specification(wanted);
    match asked.send().await.map_err(Trouble::of) {
        Ok(_) => Ok(()),
        // Another process was faster, or it is being turned off by somebody: either way it is decided elsewhere.
        Err(trouble) if trouble.is("ValidationException") || trouble.is("ResourceInUseException") => Ok(()),
        Err(trouble) => Err(trouble),
    }
}
