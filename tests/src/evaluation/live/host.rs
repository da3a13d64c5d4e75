//! The servers of the host that is attacked, and of those that it speaks to: nginx, sshd, dnsmasq,
//! and an FTP server that lets nobody in.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::stage::{DROP_POINT, HOST_V4, MIRROR, RESOLVER};
use crate::namespace::Namespace;
use crate::process::{Background, succeed, wait_until};
use crate::servers::{self, Server};
use crate::topology::{INSIDE_V4, INSIDE_V6, Topology};

/// Pages by path, with their size in bytes.
pub const PAGES: [(&str, usize); 7] = [
    ("index.html", 8_000),
    ("style.css", 20_000),
    ("script.js", 60_000),
    ("one.jpg", 15_000),
    ("two.jpg", 25_000),
    ("three.jpg", 40_000),
    ("health", 20),
];
/// A long download, and a piece of a video.
const LARGE: [(&str, usize); 2] = [("image.iso", 40_000_000), ("chunk.ts", 400_000)];
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them, until this goes.
#[derive(Debug)]
pub struct Servers {
    pub folder: TempDir,
    _processes: Vec<Background>,
    _threads: Vec<Server>,
}

impl Servers {
    pub fn start(world: &Topology) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        // nginx's workers are not root.
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let (inside, outside) = (&world.inside, &world.outside);
        let host = [IpAddr::from(INSIDE_V4), IpAddr::from(INSIDE_V6)];
        let processes = vec![
            web(inside, &folder.path().join("shop"))?,
            ssh(inside, &folder.path().join("ssh"))?,
            names(inside, &host)?,
            names(outside, &[RESOLVER])?,
        ];
        let threads = vec![
            servers::ftp_that_refuses(inside, 21)?,
            servers::udp_echo(inside, 5000)?,
            // Packages for the host, and the far ends of what leaves it.
            servers::http(outside, 8080, &"package ".repeat(250_000))?,
            servers::tcp_count(outside, 8443)?,
            servers::tcp_echo(outside, 4444)?,
        ];
        for (from, to, port) in [
            (outside, HOST_V4, 80),
            (outside, HOST_V4, 22),
            (outside, HOST_V4, 53),
            (inside, MIRROR, 8080),
            (inside, DROP_POINT, 8443),
        ] {
            let to = SocketAddr::new(to, port);
            wait_until(&format!("{to} answers"), PATIENCE, || {
                use crate::clients::{Connect, connect};
                Ok(connect(from, to, Duration::from_millis(500))? == Connect::Accepted)
            })?;
        }
        Ok(Self {
            folder,
            _processes: processes,
            _threads: threads,
        })
    }

    /// The private key of the one who may log in.
    pub fn key(&self) -> std::path::PathBuf {
        self.folder.path().join("ssh/user")
    }
}

/// nginx as a shop would run it: pages, a slow large download, and a part behind a password. By TLS it knows no name, and
/// says so to whoever greets it.
fn web(inside: &Namespace, folder: &Path) -> Result<Background> {
    let pages = folder.join("pages");
    fs::create_dir_all(pages.join("private"))?;
    for (name, length) in PAGES.iter().chain(&LARGE) {
        fs::write(pages.join(name), "x".repeat(*length))?;
    }
    // Nobody knows this password.
    fs::write(
        folder.join("users"),
        "admin:$apr1$palisade$unknownunknownunknown.\n",
    )?;
    let at = folder.display();
    let settings = folder.join("nginx.conf");
    fs::write(
        &settings,
        format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {at}/pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off;\nclient_body_temp_path {at}/b;\nproxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f;\nuwsgi_temp_path {at}/u;\nscgi_temp_path {at}/s;\n\
             server {{ listen 80; listen [::]:80; root {at}/pages;\n\
             location /image.iso {{ limit_rate 2m; }}\n\
             location /private {{ auth_basic \"staff\"; auth_basic_user_file {at}/users; }} }}\n\
             server {{ listen 443 ssl; listen [::]:443 ssl; ssl_reject_handshake on; }}\n}}\n"
        ),
    )?;
    let mut command = inside.household("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(&settings);
    quietly(&mut command)
}

/// sshd with a key for one, and passwords that nobody has.
fn ssh(inside: &Namespace, folder: &Path) -> Result<Background> {
    fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    for key in ["host", "user"] {
        let kind = ["-q", "-t", "ed25519", "-N", "", "-f"];
        succeed(Command::new("ssh-keygen").args(kind).arg(path(key)))?;
    }
    fs::write(
        folder.join("config"),
        format!(
            "Port 22\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication yes\nPrintMotd no\nUseDNS no\n",
            path("host"),
            path("user.pub")
        ),
    )?;
    // Where the server's unprivileged part lives; Debian's service makes it.
    fs::create_dir_all("/run/sshd")?;
    let mut command = inside.household("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", &path("config")]);
    quietly(&mut command)
}

/// A name server for example.com.
fn names(namespace: &Namespace, listen: &[IpAddr]) -> Result<Background> {
    let mut command = namespace.household("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ])
        // To another group it would change, and with that no longer be told when its household ends.
        .args([
            "--user=root",
            "--group=root",
            "--pid-file",
            "--bind-interfaces",
            "--cache-size=0",
        ])
        .args([
            "--address=/example.com/203.0.113.10",
            "--dns-forward-max=10000",
        ])
        .arg("--log-facility=/dev/null");
    for address in listen {
        command.arg(format!("--listen-address={address}"));
    }
    quietly(&mut command)
}

fn quietly(command: &mut Command) -> Result<Background> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Background::spawn(command)
}
