//! One run of a program: what it is handed, how long it may take, and what it leaves.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{Order, Ran};

/// What the process that runs programs ignores, and they do not.
pub(super) const IGNORED: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// How much of what it says on standard error is kept: the end of it.
const TAIL: usize = 1024;
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long its last words are waited for: a child that it left behind may keep standard error open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs it to its end, or to the end of its time.
pub(super) fn run(order: &Order, document: String) -> Ran {
    let mut child = match start(order) {
        Ok(child) => child,
        Err(error) => return Ran::Impossible(error.to_string()),
    };
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program that does not want to know closes its end; its exit code counts.
            let _ = stdin.write_all(document.as_bytes());
        }
    });
    let (words, heard) = channel();
    std::thread::spawn(move || {
        let mut part = [0; TAIL];
        let mut stderr = stderr;
        while let Some(Ok(length @ 1..)) = stderr.as_mut().map(|stderr| stderr.read(&mut part)) {
            // Nobody listens any more.
            if words.send(part[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    match wait(&mut child, order.timeout) {
        Some(status) => Ran::Ended {
            code: status.code(),
            said: tail(&heard),
        },
        None => {
            end(&child);
            // Killed; the wait only takes its body away.
            let _ = child.wait();
            Ran::Killed
        }
    }
}

fn start(order: &Order) -> std::io::Result<Child> {
    let mut command = Command::new(&order.path);
    command
        .args(&order.arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    // SAFETY: signal(2) may be called between fork and exec, and touches no memory.
    unsafe {
        command.pre_exec(|| {
            for signal in IGNORED {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command.spawn()
}

fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() > timeout {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn tail(heard: &Receiver<Vec<u8>>) -> String {
    let end = Instant::now() + LAST_WORDS;
    let mut tail = Vec::new();
    while let Ok(words) = heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
        tail.extend_from_slice(&words);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail).trim().replace('\n', " | ")
}

/// Kills it and its children, which are in its process group. It has not been waited for, so no other has its
/// number.
fn end(child: &Child) {
    let group = i32::try_from(child.id()).ok();
    if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
        // Nobody left in it is as good.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Ran {
        let order = Order {
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            timeout,
        };
        run(&order, "{\"a\":1}\n".to_owned())
    }

    const LONG: Duration = Duration::from_secs(60);

    fn ended(code: i32, said: &str) -> Ran {
        Ran::Ended {
            code: Some(code),
            said: said.to_owned(),
        }
    }

    #[test]
    fn it_gets_the_document_and_no_environment_of_the_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let (document, environment) = (folder.path().join("document"), folder.path().join("env"));
        let script = format!(
            "cat > {}; env > {}",
            document.display(),
            environment.display()
        );
        assert_eq!(shell(&script, LONG), ended(0, ""));
        let read = std::fs::read_to_string(document).expect("written");
        assert_eq!(read, "{\"a\":1}\n");
        let environment = std::fs::read_to_string(environment).expect("written");
        assert!(!environment.contains("CARGO"), "{environment}");
    }

    #[test]
    fn its_exit_code_and_its_last_words_are_kept() {
        let ran = shell("echo no such >&2; echo pager >&2; exit 3", LONG);
        assert_eq!(ran, ended(3, "no such | pager"));
        assert_eq!(shell("exec <&-; exit 75", LONG), ended(75, ""));
        let Ran::Ended { said, .. } = shell("yes words | head -c 100000 >&2; echo last >&2", LONG)
        else {
            panic!("it did not end");
        };
        assert!(said.len() <= TAIL * 2 && said.ends_with("last"), "{said}");
    }

    #[test]
    fn one_that_does_not_end_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let children = folder.path().join("children");
        let script = format!("sleep 600 & echo $! > {}; wait", children.display());
        assert_eq!(shell(&script, Duration::from_secs(2)), Ran::Killed);
        let child = std::fs::read_to_string(&children).expect("written");
        let state = format!("/proc/{}/stat", child.trim());
        // Gone, or a corpse that nobody has taken away yet; a busy machine takes its time to end it.
        let alive = || std::fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z"));
        let asked = Instant::now();
        while alive() && asked.elapsed() < LONG {
            std::thread::sleep(LOOK);
        }
        assert!(!alive(), "{child} is alive");
    }

    #[test]
    fn one_that_cannot_be_run_is_said() {
        let order = Order {
            path: "/nonexistent/page".into(),
            arguments: Vec::new(),
            timeout: LONG,
        };
        assert!(matches!(run(&order, String::new()), Ran::Impossible(_)));
    }
}
