"""The table as Python programs see it: `requests-cache` and plain boto3, one verb a call. Prints one line of JSON.

    rc-set URL TABLE KEY HEX [EXPIRES_UNIX]    through requests-cache's DynamoDbDict, which creates the table
    rc-get URL TABLE KEY                       {"hex": ... or null}
    rc-del URL TABLE KEY                       {"deleted": true or false}
    rc-keys URL TABLE                          {"keys": [...]}
    put URL TABLE ITEM_JSON                    boto3's low-level form; B as hex
    item URL TABLE KEY                         the whole item, B as hex
    table URL TABLE                            what the table is
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError
from requests_cache.backends.dynamodb import DynamoDbDict

SESSION = {
    'region_name': 'us-east-1',
    'aws_access_key_id': 'test',
    'aws_secret_access_key': 'test',
}


class Value(bytes):
    """What requests-cache stores where a serializer has made bytes of a response: those, and when it ends."""

    expires_unix = None


def bytes_to_hex(value):
    if isinstance(value, dict):
        return {name: bytes_to_hex(part) for name, part in value.items()}
    return bytes(value).hex() if isinstance(value, (bytes, bytearray)) else value


def hex_to_bytes(item):
    return {name: {k: bytes.fromhex(v) if k == 'B' else v for k, v in part.items()} for name, part in item.items()}


def main(verb, url, table, *rest):
    client = boto3.client('dynamodb', endpoint_url=url, **SESSION)
    if verb.startswith('rc-'):
        resource = boto3.resource('dynamodb', endpoint_url=url, **SESSION)
        store = DynamoDbDict(table, connection=resource, serializer=None)
        if verb == 'rc-set':
            value = Value(bytes.fromhex(rest[1]))
            value.expires_unix = int(rest[2]) if len(rest) > 2 else None
            store[rest[0]] = value
            return {}
        if verb == 'rc-get':
            try:
                return {'hex': bytes(store[rest[0]]).hex()}
            except KeyError:
                return {'hex': None}
        if verb == 'rc-del':
            try:
                del store[rest[0]]
                return {'deleted': True}
            except KeyError:
                return {'deleted': False}
        return {'keys': sorted(store)}
    if verb == 'put':
        client.put_item(TableName=table, Item=hex_to_bytes(json.loads(rest[0])))
        return {}
    if verb == 'item':
        answer = client.get_item(TableName=table, Key={'key': {'S': rest[0]}}, ConsistentRead=True)
        return bytes_to_hex(answer.get('Item'))
    if verb == 'table':
        found = client.describe_table(TableName=table)['Table']
        expiry = client.describe_time_to_live(TableName=table)['TimeToLiveDescription']
        return {
            'keys': found['KeySchema'],
            'attributes': found['AttributeDefinitions'],
            'billing': found.get('BillingModeSummary', {}).get('BillingMode'),
            'ttl': expiry.get('AttributeName') if expiry['TimeToLiveStatus'] in ('ENABLED', 'ENABLING') else None,
        }
    raise SystemExit(__doc__)


if __name__ == '__main__':
    try:
        print(json.dumps(main(*sys.argv[1:])))
    except ClientError as error:
        raise SystemExit(str(error)) from error
