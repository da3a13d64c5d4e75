//! A real browser in a namespace, driven by the DevTools protocol over two pipes: what a person would see, and what the browser
//! has to say about it.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::need_tools;
use crate::patience::stretched;
use crate::process::Background;

/// How long the browser may take to answer: its start is slow where much else runs.
const ANSWER: Duration = Duration::from_secs(60);

/// Reads nothing from elsewhere by itself, and writes only into its profile.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

/// A browser with one page.
pub struct Browser {
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    events: VecDeque<Value>,
    /// Last, so that the browser has ended when its profile goes.
    _running: Background,
    _profile: TempDir,
}

/// How the page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    /// A phone: touched, with two dots to a pixel.
    pub phone: bool,
}

impl Browser {
    /// Starts Chromium in a namespace with an empty page.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        need_tools(&["chromium", "sh"])?;
        let profile = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        // The protocol wants its pipes as 3 and 4; its chatter goes nowhere.
        let redirect = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut running = Background::spawn(
            namespace
                .command("sh")
                .args(["-c", redirect, "chromium"])
                .args(FLAGS)
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg("about:blank")
                .env("HOME", profile.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        )?;
        let (input, output) = running.pipes().context("the browser has no pipes")?;
        let mut browser = Self {
            input,
            messages: listen(output),
            session: None,
            next: 0,
            events: VecDeque::new(),
            _running: running,
            _profile: profile,
        };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = &page["targetId"];
        let attached = self.call(
            "Target.attachToTarget",
            json!({ "targetId": target, "flatten": true }),
        )?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(())
    }

    /// Sends a command and waits for its answer; what happens meanwhile is kept for [`Self::events`].
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.input.write_all(&bytes)?;
        let end = Instant::now() + stretched(ANSWER);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("{method}: the browser does not answer"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: the browser has ended"),
            };
            if message["id"] != id {
                self.events.push_back(message);
            } else if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            } else {
                return Ok(message["result"].clone());
            }
        }
    }

    /// Goes to an address and waits until the page has loaded.
    pub fn open(&mut self, address: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": address }))?;
        if let Some(error) = gone.get("errorText") {
            bail!("{address}: {error}");
        }
        self.wait("the page", ANSWER, "document.readyState === 'complete'")
    }

    /// The value of an expression in the page; promises are waited for.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let answer = self.call(
            "Runtime.evaluate",
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true }),
        )?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown:#}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// What an element shows, as one reads it.
    pub fn text(&mut self, selector: &str) -> Result<String> {
        let selector = serde_json::to_string(selector)?;
        let text = self.evaluate(&format!(
            "document.querySelector({selector})?.innerText ?? ''"
        ))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true in the page; an error with all that it shows if that does not come.
    pub fn wait(&mut self, what: &str, patience: Duration, expression: &str) -> Result<()> {
        let end = Instant::now() + stretched(patience);
        while self.evaluate(expression)? != Value::Bool(true) {
            if Instant::now() > end {
                let shown = self.text("body")?;
                bail!("{what}: not within {patience:?}; the page shows:\n{shown}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Presses and lets go of a key, such as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => bail!("no such key: {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({
                    "type": kind, "key": key, "code": key, "text": text,
                    "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code,
                }),
            )?;
        }
        Ok(())
    }

    /// Looks at the page in another way.
    pub fn look(&mut self, view: View) -> Result<()> {
        let scheme = if view.dark { "dark" } else { "light" };
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({
                "width": view.width, "height": view.height, "mobile": view.phone,
                "deviceScaleFactor": if view.phone { 2 } else { 1 },
            }),
        )?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        // Two frames later all is drawn anew.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")?;
        Ok(())
    }

    /// Keeps a picture of the page as PNG: its whole length, or of a phone's what fits in.
    pub fn picture(&mut self, file: &Path, view: View) -> Result<()> {
        let size = self.call("Page.getLayoutMetrics", json!({}))?;
        let whole = &size["cssContentSize"];
        let height = if view.phone {
            json!(view.height)
        } else {
            whole["height"].clone()
        };
        let clip = json!({
            "x": 0, "y": 0, "width": whole["width"], "height": height,
            "scale": if view.phone { 0.75 } else { 1.0 },
        });
        let picture = self.call(
            "Page.captureScreenshot",
            json!({ "format": "png", "clip": clip, "captureBeyondViewport": true }),
        )?;
        let encoded = self.folder().join("picture");
        fs::write(&encoded, picture["data"].as_str().context("no picture")?)?;
        let output = Command::new("base64")
            .arg("--decode")
            .arg(&encoded)
            .output()?;
        ensure!(output.status.success(), "the picture cannot be decoded");
        Ok(fs::write(file, output.stdout)?)
    }

    fn folder(&self) -> &Path {
        self._profile.path()
    }

    /// What the browser has told since the last time it was asked.
    pub fn events(&mut self) -> Vec<Value> {
        while let Ok(message) = self.messages.try_recv() {
            self.events.push_back(message);
        }
        self.events.drain(..).collect()
    }
}

/// Reads messages, each with a zero behind it, until the browser goes.
fn listen(output: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        loop {
            let mut bytes = Vec::new();
            match output.read_until(0, &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            bytes.pop();
            // What is no JSON would be a fault of the browser, and shows as an answer that does not come.
            if let Ok(message) = serde_json::from_slice(&bytes)
                && sender.send(message).is_err()
            {
                return;
            }
        }
    });
    receiver
}
