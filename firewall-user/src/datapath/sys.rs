//! The few bpf(2) calls that aya does not offer.
#![expect(unsafe_code, reason = "system calls with memory laid out by hand")]

use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_type};

fn bpf(command: bpf_cmd, attribute: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a whole, initialised bpf_attr.
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

/// The interface index that an XDP or tcx link is attached to; 0 when its device has gone.
pub(super) fn link_interface(link: BorrowedFd<'_>) -> io::Result<u32> {
    let info = link_info(link)?;
    // The interface is the first field of the union for XDP as for tcx.
    // SAFETY: reading plain integers of an initialised union.
    Ok(unsafe { info.__bindgen_anon_1.xdp.ifindex })
}

/// The identifier of the program that a link runs.
pub(super) fn link_program(link: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(link_info(link)?.prog_id)
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: all zero is a valid bpf_link_info and bpf_attr.
    let (mut info, mut attribute): (bpf_link_info, bpf_attr) = unsafe { (zeroed(), zeroed()) };
    attribute.info.bpf_fd = link.as_raw_fd() as u32;
    attribute.info.info_len = size_of::<bpf_link_info>() as u32;
    attribute.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}

/// Has a link run another program from the next packet on. On an error it runs what it ran.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all zero is a valid bpf_attr.
    let mut attribute: bpf_attr = unsafe { zeroed() };
    attribute.link_update.link_fd = link.as_raw_fd() as u32;
    attribute.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attribute)?;
    Ok(())
}

/// Takes a link's program off its interface at once. Unpinning alone takes effect some time after.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all zero is a valid bpf_attr.
    let mut attribute: bpf_attr = unsafe { zeroed() };
    attribute.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attribute)?;
    Ok(())
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zero is a valid bpf_attr.
    let mut attribute: bpf_attr = unsafe { zeroed() };
    attribute.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = bpf(bpf_cmd::BPF_OBJ_GET, &mut attribute)?;
    // SAFETY: the kernel just gave this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Counts the entries of a hash map, in batches.
pub(super) fn count_entries(
    map: BorrowedFd<'_>,
    key_size: usize,
    value_size: usize,
) -> io::Result<u64> {
    const BATCH: usize = 4_096;
    let mut keys = vec![0_u8; BATCH * key_size];
    let mut values = vec![0_u8; BATCH * value_size];
    // A hash map's position is a bucket number.
    let mut position = 0_u64;
    let mut total = 0;
    let mut first = true;
    loop {
        // SAFETY: all zero is a valid bpf_attr.
        let mut attribute: bpf_attr = unsafe { zeroed() };
        attribute.batch.in_batch = if first { 0 } else { &raw const position as u64 };
        attribute.batch.out_batch = &raw mut position as u64;
        attribute.batch.keys = keys.as_mut_ptr() as u64;
        attribute.batch.values = values.as_mut_ptr() as u64;
        attribute.batch.count = BATCH as u32;
        attribute.batch.map_fd = map.as_raw_fd() as u32;
        let done = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attribute) {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        // SAFETY: reading a plain integer of an initialised union.
        total += u64::from(unsafe { attribute.batch.count });
        first = false;
        if done {
            return Ok(total);
        }
    }
}

/// Two programs of three instructions that tell the kernel's tick counter.
pub(super) struct TickCounter {
    lower: OwnedFd,
    upper: OwnedFd,
}

// Instructions: operation, registers, offset, value.
const CALL_JIFFIES64: u64 = 0x85 | (118 << 32);
const SHIFT_RIGHT_32: u64 = 0x77 | (32 << 32);
const EXIT: u64 = 0x95;

impl TickCounter {
    pub(super) fn load() -> io::Result<Self> {
        Ok(Self {
            lower: load_program(&[CALL_JIFFIES64, EXIT])?,
            upper: load_program(&[CALL_JIFFIES64, SHIFT_RIGHT_32, EXIT])?,
        })
    }

    pub(super) fn read(&self) -> io::Result<u64> {
        let before = run(self.upper.as_fd())?;
        let lower = run(self.lower.as_fd())?;
        // The lower half wraps once in months; then the upper one is read again.
        let upper = if lower < u32::MAX / 2 {
            run(self.upper.as_fd())?
        } else {
            before
        };
        Ok(u64::from(upper) << 32 | u64::from(lower))
    }
}

/// Loads a program that asks for a SYN cookie and for the check of one, as the kernel programs do,
/// with headers of zeros.
pub(super) fn probe_syncookies() -> io::Result<()> {
    // Room for the largest header, of IPv6.
    let mut program: Vec<u64> = (1..=5).map(|word| clear_stack(-8 * word)).collect();
    for helper in [204, 205, 206, 207] {
        program.extend(stack_pointer(1, -40));
        program.extend(stack_pointer(2, -40));
        program.extend([set(3, 20), call(helper)]);
    }
    program.extend([set(0, 0), EXIT]);
    load_program(&program)?;
    Ok(())
}

/// Stores eight bytes of zero on the stack.
fn clear_stack(at: i32) -> u64 {
    instruction(0x7a, 10, at, 0)
}

/// Has a register point to a place on the stack.
fn stack_pointer(register: u64, at: i32) -> [u64; 2] {
    [
        instruction(0xbf, register | 10 << 4, 0, 0),
        instruction(0x07, register, 0, at),
    ]
}

fn set(register: u64, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}

fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, helper)
}

fn instruction(operation: u64, registers: u64, offset: i32, value: i32) -> u64 {
    operation
        | registers << 8
        | u64::from(offset as i16 as u16) << 16
        | u64::from(value.cast_unsigned()) << 32
}

fn load_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: all zero is a valid bpf_attr.
    let mut attribute: bpf_attr = unsafe { zeroed() };
    let license = c"GPL";
    attribute.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    attribute.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attribute.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attribute.__bindgen_anon_3.license = license.as_ptr() as u64;
    let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attribute)?;
    // SAFETY: the kernel just gave this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Runs an XDP program on an empty frame; returns what it returned.
fn run(program: BorrowedFd<'_>) -> io::Result<u32> {
    let frame = [0_u8; 64];
    // SAFETY: all zero is a valid bpf_attr.
    let mut attribute: bpf_attr = unsafe { zeroed() };
    attribute.test.prog_fd = program.as_raw_fd() as u32;
    attribute.test.data_in = frame.as_ptr() as u64;
    attribute.test.data_size_in = frame.len() as u32;
    attribute.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute)?;
    // SAFETY: reading a plain integer of an initialised union.
    Ok(unsafe { attribute.test.retval })
}

const _: () = assert!(offset_of!(bpf_link_info, __bindgen_anon_1) == 16);
