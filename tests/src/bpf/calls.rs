//! The bpf(2) calls of the measurement: what is compared are plain program descriptors, timed by
//! one and the same call whoever loaded them.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{
    BPF_F_TEST_XDP_LIVE_FRAMES, BPF_F_XDP_HAS_FRAGS, XDP_FLAGS_DRV_MODE, bpf_attach_type, bpf_attr,
    bpf_cmd, bpf_map_type, bpf_prog_info, bpf_prog_type,
};

/// What the kernel tells about a loaded program.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes of instructions after the verifier, and of machine code.
    pub translated: u32,
    pub machine: u32,
    /// Instructions that the verifier followed, each as often as it did.
    pub verified: u32,
}

/// One timed run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub nanoseconds: u32,
    pub verdict: u32,
}

/// Runs a program `repeat` times on a frame (BPF_PROG_TEST_RUN); nanoseconds are of one run.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Run> {
    let mut attribute = empty();
    attribute.test.prog_fd = number(program);
    attribute.test.data_in = frame.as_ptr() as u64;
    attribute.test.data_size_in = frame.len() as u32;
    attribute.test.repeat = repeat;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute).context("a test run")?;
    // SAFETY: plain integers of an initialised union.
    let (nanoseconds, verdict) = unsafe { (attribute.test.duration, attribute.test.retval) };
    Ok(Run {
        nanoseconds,
        verdict,
    })
}

/// Runs a program once on a frame, which it may change: its verdict, and the frame as it leaves it.
pub fn change(program: BorrowedFd<'_>, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
    let mut changed = vec![0; frame.len()];
    let mut attribute = empty();
    attribute.test.prog_fd = number(program);
    attribute.test.data_in = frame.as_ptr() as u64;
    attribute.test.data_size_in = frame.len() as u32;
    attribute.test.data_out = changed.as_mut_ptr() as u64;
    attribute.test.data_size_out = changed.len() as u32;
    attribute.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute).context("a test run")?;
    // SAFETY: plain integers of an initialised union.
    let (verdict, length) = unsafe { (attribute.test.retval, attribute.test.data_size_out) };
    changed.truncate(length as usize);
    Ok((verdict, changed))
}

/// Sends `count` frames through an XDP program as if the interface had received them, `batch` at a
/// time: with XDP_TX the other end of a veth pair really receives them. Nanoseconds of one frame:
/// the kernel takes its time for a call besides, which is not in them. Call it from a thread in the
/// interface's namespace.
pub fn send(
    program: BorrowedFd<'_>,
    frame: &[u8],
    interface: u32,
    count: u32,
    batch: u32,
) -> Result<u32> {
    // The kernel's `struct xdp_md`: where data begins and ends, where metadata does, the interface
    // and queue that it came in by, the interface that it goes out by.
    let context: [u32; 6] = [0, frame.len() as u32, 0, interface, 0, 0];
    let mut attribute = empty();
    attribute.test.prog_fd = number(program);
    attribute.test.data_in = frame.as_ptr() as u64;
    attribute.test.data_size_in = frame.len() as u32;
    attribute.test.ctx_in = context.as_ptr() as u64;
    attribute.test.ctx_size_in = size_of_val(&context) as u32;
    attribute.test.repeat = count;
    attribute.test.batch_size = batch;
    attribute.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute).context("sending live frames")?;
    // SAFETY: a plain integer of an initialised union.
    Ok(unsafe { attribute.test.duration })
}

/// Attaches an XDP program in native mode; it stays as long as the result lives.
pub fn attach(program: BorrowedFd<'_>, interface: u32) -> Result<OwnedFd> {
    let mut attribute = empty();
    attribute.link_create.__bindgen_anon_1.prog_fd = number(program);
    attribute.link_create.__bindgen_anon_2.target_ifindex = interface;
    attribute.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attribute.link_create.flags = XDP_FLAGS_DRV_MODE;
    let link = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attribute).context("attaching a program")?;
    Ok(own(link))
}

/// The hook that a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    /// What XDP programs that tail-call one another have to agree on.
    XdpFrags,
    Tc,
}

/// Loads a program from instructions, each as one word.
pub fn load(name: &str, instructions: &[u64], hook: Hook) -> Result<OwnedFd> {
    let mut attribute = empty();
    // SAFETY: this member is plain integers and arrays of them, so all zero is one.
    let program = unsafe { &mut attribute.__bindgen_anon_3 };
    (program.prog_type, program.expected_attach_type) = match hook {
        Hook::Xdp | Hook::XdpFrags => (
            bpf_prog_type::BPF_PROG_TYPE_XDP as u32,
            bpf_attach_type::BPF_XDP as u32,
        ),
        Hook::Tc => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32, 0),
    };
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = instructions.len() as u32;
    program.license = c"GPL".as_ptr() as u64;
    if hook == Hook::XdpFrags {
        program.prog_flags = BPF_F_XDP_HAS_FRAGS;
    }
    for (to, from) in program.prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attribute)
        .with_context(|| format!("loading the program {name}"))?;
    Ok(own(fd))
}

/// A table with one program in it, to be tail-called.
pub fn table_of(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let table = map(bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY, 4, 1).context("a program table")?;
    let value = number(program).to_ne_bytes();
    put(table.as_fd(), 0, &value).context("putting a program in a table")?;
    Ok(table)
}

/// An array map that holds these values.
pub fn array_of<const N: usize>(values: &[[u8; N]]) -> Result<OwnedFd> {
    let array = array(N as u32, values.len() as u32)?;
    for (index, value) in values.iter().enumerate() {
        put(array.as_fd(), index as u32, value).context("filling an array map")?;
    }
    Ok(array)
}

/// An array map of zeros.
pub fn array(value_bytes: u32, entries: u32) -> Result<OwnedFd> {
    let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY;
    map(kind, value_bytes, entries).context("an array map")
}

fn map(kind: bpf_map_type, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attribute = empty();
    // SAFETY: as in `load`.
    let map = unsafe { &mut attribute.__bindgen_anon_1 };
    map.map_type = kind as u32;
    map.key_size = 4;
    map.value_size = value_size;
    map.max_entries = entries;
    bpf(bpf_cmd::BPF_MAP_CREATE, &mut attribute).map(own)
}

fn put(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let mut attribute = empty();
    // SAFETY: as in `load`.
    let element = unsafe { &mut attribute.__bindgen_anon_2 };
    element.map_fd = number(map);
    element.key = &raw const key as u64;
    element.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attribute).map(drop)
}

/// Opens a program by its number.
pub fn open(id: u32) -> Result<OwnedFd> {
    let mut attribute = empty();
    attribute.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    let fd = bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attribute)
        .with_context(|| format!("opening program {id}"))?;
    Ok(own(fd))
}

/// Asks for a program's size.
pub fn size(program: BorrowedFd<'_>) -> Result<Size> {
    // SAFETY: plain integers and arrays of them: all zero is a valid value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    let mut attribute = empty();
    attribute.info.bpf_fd = number(program);
    attribute.info.info_len = size_of::<bpf_prog_info>() as u32;
    attribute.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute).context("asking for a program's size")?;
    Ok(Size {
        translated: info.xlated_prog_len,
        machine: info.jited_prog_len,
        verified: info.verified_insns,
    })
}

fn bpf(command: bpf_cmd, attribute: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a whole, initialised bpf_attr, and what it points at outlives the
    // call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attribute,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn empty() -> bpf_attr {
    // SAFETY: every member is made of integers: all zero is a valid value.
    unsafe { zeroed() }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just gave this descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
