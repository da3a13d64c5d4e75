//! What runs inside the virtual machine: a script that makes the shared root a whole system, runs the
//! test programs one after the other and says between marks what came of each.

use std::{
    env,
    fmt::Write,
    path::{Path, PathBuf},
};

use super::{machine::PROCESSORS, tree::Tree};

/// How many times as long as usual the tests wait, unless this variable says otherwise: everything is
/// emulated, and the machine may run other things.
const PATIENCE: &str = "5";
const PATIENCE_VARIABLE: &str = "PALISADE_PATIENCE";
/// No test program may take longer, in seconds.
const LIMIT: u32 = 40 * 60;

/// A line that begins so is the script's own.
pub const MARK: &str = "@@";

/// What is run, and with what.
#[derive(Clone, Debug)]
pub struct Job {
    pub program: PathBuf,
    pub tests: Vec<Test>,
    /// Handed to each test program.
    pub filter: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Test {
    pub name: String,
    pub file: PathBuf,
    /// The folder that it runs in.
    pub folder: PathBuf,
}

/// The script, to be run as the first process.
pub fn script(tree: &Tree, job: &Job) -> String {
    let mut text = PREPARE
        .replace("{release}", &tree.release)
        .replace("{modules}", &quoted(&tree.modules))
        .replace("{mark}", MARK)
        .replace("{patience}", &patience())
        .replace("{processors}", &PROCESSORS.to_string())
        .replace("{limit}", &LIMIT.to_string())
        .replace("{program}", &quoted(&job.program));
    let filter: String = job
        .filter
        .iter()
        .map(|word| format!(" {}", quoted(Path::new(word))))
        .collect();
    for test in &job.tests {
        // A string takes everything.
        let _ = writeln!(
            text,
            "run {} {} {}{filter}",
            quoted(Path::new(&test.name)),
            quoted(&test.folder),
            quoted(&test.file),
        );
    }
    text.push_str(FINISH.replace("{mark}", MARK).as_str());
    text
}

fn patience() -> String {
    env::var(PATIENCE_VARIABLE)
        .ok()
        .filter(|factor| factor.parse::<u32>().is_ok())
        .unwrap_or_else(|| PATIENCE.to_owned())
}

/// For the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

// The second serial port takes the results; the kernel speaks on the first one. The two network
// cards are joined by qemu, and by nothing else.
const PREPARE: &str = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /usr/lib/modules
rm -rf '/usr/lib/modules/{release}'
ln -s {modules} '/usr/lib/modules/{release}'
exec > /dev/ttyS1 2>&1 < /dev/null
for module in virtio_net veth 8021q tun sch_ingress cls_bpf nf_tables nf_conntrack; do
    modprobe $module || echo \"module $module is missing\"
done
ip link set lo up
export PALISADE_BIN={program} PALISADE_PATIENCE={patience} PALISADE_TEST_WIRE=eth0,eth1
now() { read -r up idle < /proc/uptime; echo $up; }
run() {
    name=$1
    cd \"$2\" || return
    export CARGO_MANIFEST_DIR=\"$2\"
    shift 2
    echo \"{mark} begin $name $(now)\"
    timeout --kill-after=10 {limit} \"$@\" --color never --test-threads {processors}
    code=$?
    echo
    echo \"{mark} end $name $code $(now)\"
}
echo \"{mark} up $(uname -r) $(now)\"
";

const FINISH: &str = "echo \"{mark} done $(now)\"
# What a full buffer still holds shall leave the machine before it goes.
sleep 1
echo o > /proc/sysrq-trigger
sleep 60
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_program_becomes_a_line_that_the_shell_reads_as_meant() {
        let tree = Tree {
            release: "6.1.0-1".to_owned(),
            image: "/k/vmlinuz".into(),
            modules: "/k/lib/modules/6.1.0-1".into(),
        };
        let job = Job {
            program: "/it's/palisade".into(),
            tests: vec![Test {
                name: "fence".to_owned(),
                file: "/t/fence-1".into(),
                folder: "/src/tests".into(),
            }],
            filter: vec!["a ban".to_owned()],
        };
        let script = script(&tree, &job);
        assert!(script.contains("\nrun 'fence' '/src/tests' '/t/fence-1' 'a ban'\n"));
        assert!(script.contains("PALISADE_BIN='/it'\\''s/palisade' "));
        assert!(!script.contains('{') || !script.contains("{mark}"));
    }
}
