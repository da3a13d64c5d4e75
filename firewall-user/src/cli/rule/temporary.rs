//! Temporary rules: the signatures of floods that a running daemon has in force. They stand in no
//! policy.

use serde_json::{Map, Value, json};

use crate::cli::client::{Client, NoDaemon, read};
use crate::cli::{Global, output};
use crate::daemon::documents::{SignatureDocument, Signatures};

/// Those in force; none without a daemon.
pub(super) fn ask(global: &Global) -> Vec<SignatureDocument> {
    let answer = Client::new(&global.socket)
        .and_then(|client| client.get("/v1/signatures"))
        .and_then(read::<Signatures>);
    match answer {
        Ok(answer) => answer.signatures,
        Err(error) => {
            if !error.is::<NoDaemon>() {
                eprintln!("palisade: temporary rules are not known: {error:#}");
            }
            Vec::new()
        }
    }
}

/// Ends one.
pub(super) fn remove(global: &Global, name: &str, reason: Option<String>) -> anyhow::Result<()> {
    let path = format!("/v1/signatures?name={name}");
    let document = Client::new(&global.socket)?.because(reason).delete(&path)?;
    if global.json {
        output::json(&document)
    } else {
        output::line(&format!("temporary rule \"{name}\" is removed"))
    }
}

/// Its row in the list of rules.
pub(super) fn row(signature: &SignatureDocument) -> Vec<String> {
    vec![
        signature.name.clone(),
        "drop".to_owned(),
        "inbound".to_owned(),
        "enforce".to_owned(),
        signature.words.clone(),
        signature.packets.to_string(),
        signature.bytes.to_string(),
        "-".to_owned(),
        "-".to_owned(),
        format!("alert {}", signature.alert),
        "with the flood".to_owned(),
    ]
}

/// Its document in the list of rules.
pub(super) fn document(signature: &SignatureDocument) -> Value {
    let mut document = Map::new();
    document.insert("name".to_owned(), json!(signature.name));
    document.insert("action".to_owned(), json!("drop"));
    document.insert("direction".to_owned(), json!("inbound"));
    document.insert("mode".to_owned(), json!("enforce"));
    document.insert("temporary".to_owned(), json!(true));
    document.insert("built_in".to_owned(), json!(false));
    document.insert("alert".to_owned(), json!(signature.alert));
    document.insert("packets".to_owned(), json!(signature.packets));
    document.insert("bytes".to_owned(), json!(signature.bytes));
    document.insert("text".to_owned(), json!(signature.rule));
    Value::Object(document)
}

/// Shows one.
pub(super) fn show(global: &Global, signature: &SignatureDocument) -> anyhow::Result<()> {
    if global.json {
        return output::json(&document(signature));
    }
    output::line(&format!(
        "# temporary, until the flood of alert {} is over; remove `{}` or keep it: this is a rule of the policy",
        signature.alert, signature.name
    ))?;
    let (packets, bytes) = (signature.packets, signature.bytes);
    output::line(&format!("# packets {packets}, bytes {bytes}"))?;
    output::line(signature.rule.trim_end())
}
