//! What a browser has to say about the page: errors, violations of its policy, requests to others, and what would keep
//! somebody from using it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use palisade_tests::chromium::Browser;
use palisade_tests::process::succeed;
use serde_json::{Value, json};

/// Has each violation of the content security policy noted, from the first line of the page on.
pub fn note_violations(browser: &mut Browser) -> Result<()> {
    let note = "window.violations = []; document.addEventListener('securitypolicyviolation', \
                (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));";
    browser.call(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({ "source": note }),
    )?;
    Ok(())
}

/// No error, no warning, no violation, and no request to anybody but the daemon.
pub fn nothing_is_wrong(browser: &mut Browser, origin: &str) -> Result<()> {
    assert_eq!(browser.evaluate("window.violations")?, json!([]));
    let mut requests = 0;
    for event in browser.events() {
        let about = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Log.entryAdded" => panic!("{about:#}"),
            "Runtime.consoleAPICalled" => panic!("{about:#}"),
            "Network.requestWillBeSent" => {
                let url = about["request"]["url"].as_str().unwrap_or_default();
                assert!(url.starts_with(origin), "{url}");
                assert_eq!(about["request"]["method"], "GET", "{url}");
                requests += 1;
            }
            "Network.responseReceived" => {
                let answer = &about["response"];
                assert_eq!(answer["status"], 200, "{answer:#}");
                let policy = header(answer, "content-security-policy");
                assert!(
                    policy.starts_with("default-src 'none'; script-src 'self';"),
                    "{answer:#}"
                );
                assert!(!policy.contains("unsafe"), "{policy}");
                assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
                assert_eq!(header(answer, "x-content-type-options"), "nosniff");
                assert_eq!(header(answer, "referrer-policy"), "no-referrer");
            }
            _ => {}
        }
    }
    assert!(requests > 20, "{requests} requests were seen");
    Ok(())
}

fn header<'a>(answer: &'a Value, name: &str) -> &'a str {
    let headers = answer["headers"].as_object();
    headers
        .and_then(|headers| {
            headers
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
        })
        .and_then(|(_, value)| value.as_str())
        .unwrap_or_default()
}

/// axe-core finds nothing against the WCAG's levels A and AA.
pub fn accessible(browser: &mut Browser) -> Result<()> {
    if browser.evaluate("typeof axe")? != "object" {
        let script = axe()?;
        browser.evaluate(&format!("{script}; true"))?;
    }
    let found = browser.evaluate(
        "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then((result) => \
         result.violations.map((each) => [each.id, each.help, each.nodes.slice(0, 3).map((node) => node.html + node.failureSummary)]))",
    )?;
    assert_eq!(found, json!([]), "{found:#}");
    Ok(())
}

/// The judge's script, as the page's lock file pins it.
fn axe() -> Result<String> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firewall-user/page");
    let folder = tempfile::tempdir()?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins.join(name), folder.path().join(name)).with_context(|| name.to_owned())?;
    }
    succeed(
        Command::new("npm")
            .args([
                "ci",
                "--ignore-scripts",
                "--prefer-offline",
                "--no-audit",
                "--no-fund",
            ])
            .current_dir(folder.path()),
    )?;
    Ok(fs::read_to_string(
        folder.path().join("node_modules/axe-core/axe.min.js"),
    )?)
}
