//! What other people's clients do: curl, over TLS, in both versions of HTTP.

use tokio::process::Command;

use crate::fixture::{Fixture, KEY};

async fn curl(fixture: &Fixture, args: &[&str], path: &str) -> (String, String) {
    let url = fixture.url(path);
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "30",
        "--write-out",
        "\n%{http_code} %{http_version}",
    ]);
    command.arg("--cacert").arg(fixture.authority.ca()).args(["-H", &format!("Authorization: Bearer {KEY}")]);
    let output = command.args(args).arg(url).output().await.expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn curl_uses_every_endpoint_in_both_versions_of_http() {
    let fixture = Fixture::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("value");
    std::fs::write(&file, "a value from a file").unwrap();
    let file = file.to_str().unwrap();
    let json = ["-H", "Content-Type: application/json"];
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let said = |status: &str, body: &str| (format!("{status} {version}"), body.to_owned());
        let run = async |args: &[&str], path: &str| curl(&fixture, &[&[flag], args].concat(), path).await;
        let key = "/v1/cache/users%3Aget_user%3A1";
        assert_eq!(run(&["-H", "X-CacheKit-TTL: 60", "-T", file], key).await, said("204", ""));
        assert_eq!(run(&[], key).await, said("200", "a value from a file"));
        assert_eq!(run(&[], &format!("{key}/ttl")).await, said("200", r#"{"ttl":60}"#));
        let patch = [&json[..], &["-X", "PATCH", "-d", r#"{"ttl": 7200}"#]].concat();
        assert_eq!(run(&patch, &format!("{key}/ttl")).await, said("204", ""));
        assert_eq!(run(&[], &format!("{key}/ttl")).await, said("200", r#"{"ttl":7200}"#));
        let (_, head) = run(&["--head"], key).await;
        assert!(head.to_ascii_lowercase().contains("x-cachekit-fresh-for: 7200"), "{head}");
        let (status, lock) =
            run(&[&json[..], &["-d", r#"{"timeout_ms": 30000}"#]].concat(), &format!("{key}/lock")).await;
        let id = lock.strip_prefix(r#"{"lock_id":""#).and_then(|rest| rest.strip_suffix(r#""}"#)).expect(&lock);
        assert_eq!(status, format!("200 {version}"));
        let given_back =
            run(&["-X", "DELETE", "-H", &format!("X-CacheKit-Lock-Id: {id}")], &format!("{key}/lock")).await;
        assert_eq!(given_back, said("204", ""));
        assert_eq!(run(&["-X", "DELETE"], key).await, said("204", ""));
        assert_eq!(run(&[], key).await.0, format!("404 {version}"));
        assert_eq!(run(&[], "/v1/cache/health").await.0, format!("200 {version}"));
    }
}
