//! Puts a generation's programs on an interface: into the pinned links where there are any, so
//! that no packet falls between two generations, and anew where there are none.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya_obj::programs::XdpAttachType;

use super::object::is_errno;
use super::pins::{Pins, Shelf, Side, remove};
use super::state::Attached;
use super::{AttachMode, Egress, InterfaceSettings, sys};

/// Where the egress filter stands that a kernel without tcx gets: behind what others have put there
/// by hand, and replaced in place.
const CLSACT_PRIORITY: u16 = 49_000;
const CLSACT_HANDLE: u32 = 1;

/// The programs of one interface, loaded and pinned.
pub(super) struct Pair {
    pub(super) ingress: Xdp,
    pub(super) egress: SchedClassifier,
}

impl Pair {
    /// Opens what is pinned for an interface.
    pub(super) fn open(pins: &Pins, shelf: Shelf, interface: &str) -> anyhow::Result<Self> {
        let (ingress, egress) = (
            pins.program(shelf, interface, Side::In),
            pins.program(shelf, interface, Side::Out),
        );
        Ok(Self {
            ingress: Xdp::from_pin(&ingress, XdpAttachType::Interface)
                .with_context(|| format!("pinned program {}", ingress.display()))?,
            egress: SchedClassifier::from_pin(&egress)
                .with_context(|| format!("pinned program {}", egress.display()))?,
        })
    }
}

/// The outcome for one interface.
pub(super) struct Outcome {
    pub(super) attached: Attached,
    /// Both programs went into links that were there.
    pub(super) taken_over: bool,
}

/// Puts the programs on the interface. `before` is how it was attached last.
pub(super) fn put(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    index: u32,
    pins: &Pins,
    before: Option<&Attached>,
) -> anyhow::Result<Outcome> {
    let ingress = put_ingress(programs, interface, index, pins, before)
        .with_context(|| format!("XDP on {}", interface.name))?;
    let egress = match put_egress(programs, interface, index, pins, before) {
        Ok(egress) => egress,
        Err(error) => {
            if ingress.is_some() {
                // Half a fence is taken down again.
                unlink(&pins.link(&interface.name, Side::In))?;
            }
            return Err(error.context(format!("egress on {}", interface.name)));
        }
    };
    let taken_over = ingress.is_none() && egress.taken_over;
    let mut attached = match (ingress, before) {
        (Some(fresh), _) => fresh,
        (None, Some(before)) => before.clone(),
        // Taken over without a record of how: ask what it is from the next attachment on.
        (None, None) => Attached {
            generic: false,
            fallback: None,
            clsact: None,
        },
    };
    attached.clsact = egress.clsact;
    Ok(Outcome {
        attached,
        taken_over,
    })
}

/// Takes the programs off an interface; whether there were any.
pub(super) fn take_off(
    interface: &str,
    pins: &Pins,
    before: Option<&Attached>,
) -> anyhow::Result<bool> {
    let mut there = false;
    for side in [Side::Out, Side::In] {
        let pin = pins.link(interface, side);
        there |= pin.try_exists().unwrap_or(false);
        unlink(&pin)?;
    }
    if let Some(priority) = before.and_then(|before| before.clsact) {
        there = true;
        remove_filter(interface, priority);
    }
    Ok(there)
}

/// `None` when a pinned link took the program over.
fn put_ingress(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    index: u32,
    pins: &Pins,
    before: Option<&Attached>,
) -> anyhow::Result<Option<Attached>> {
    let pin = pins.link(&interface.name, Side::In);
    let wanted =
        |before: &Attached| interface.mode == AttachMode::Auto || interface.mode == before.mode();
    let stands = is_linked_to(&pin, index);
    if stands && before.is_none_or(wanted) {
        replace(&pin, programs.ingress.fd()?.as_fd())?;
        return Ok(None);
    }
    // Native and generic programs cannot stand on one interface at the same time, so the old one has
    // to go first.
    unlink(&pin)?;
    let (generic, fallback) = match attach_xdp(programs, interface, &pin) {
        Ok(attached) => attached,
        Err(error) if stands => return Err(stand_again(programs, interface, &pin, error)),
        Err(error) => return Err(error),
    };
    Ok(Some(Attached {
        generic,
        fallback,
        clsact: None,
    }))
}

/// After a change of mode was refused: attaches in any mode, so that an interface that was
/// protected is not left open. Still an error, which says how the interface was left.
fn stand_again(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    pin: &Path,
    error: anyhow::Error,
) -> anyhow::Error {
    let any_mode = InterfaceSettings {
        mode: AttachMode::Auto,
        ..interface.clone()
    };
    match attach_xdp(programs, &any_mode, pin) {
        Ok((true, _)) => error.context("it stays protected in generic mode"),
        Ok((false, _)) => error.context("it stays protected in native mode"),
        Err(again) => error.context(format!("it is NOT protected any more ({again:#})")),
    }
}

/// Attaches anew: native first, generic where that is refused and allowed. Whether it is generic,
/// and why.
fn attach_xdp(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    pin: &Path,
) -> anyhow::Result<(bool, Option<String>)> {
    let mut attach = |mode: XdpMode| -> Result<(), ProgramError> {
        let program = &mut programs.ingress;
        let id = program.attach(&interface.name, mode)?;
        let link: FdLink = program
            .take_link(id)?
            .try_into()
            .map_err(|error| ProgramError::IOError(std::io::Error::other(format!("{error}"))))?;
        link.pin(pin).map_err(|error| {
            ProgramError::IOError(std::io::Error::other(format!("pinning: {error}")))
        })?;
        Ok(())
    };
    let busy = |error: &ProgramError| is_errno(error, libc::EBUSY);
    let taken = || {
        anyhow!(
            "another XDP program is attached to {} already; `ip link show dev {}` and `bpftool net` name it",
            interface.name,
            interface.name
        )
    };
    let why_not = match interface.mode {
        AttachMode::Generic => None,
        AttachMode::Native | AttachMode::Auto => match attach(XdpMode::Driver) {
            Ok(()) => return Ok((false, None)),
            Err(error) if busy(&error) => return Err(taken()),
            Err(error) if interface.mode == AttachMode::Native => {
                return Err(error).context(format!(
                    "the driver of {} refuses native XDP; mode = \"auto\" or \"generic\" would do",
                    interface.name
                ));
            }
            Err(error) => Some(chain(&error)),
        },
    };
    match attach(XdpMode::Skb) {
        Ok(()) => Ok((true, why_not)),
        Err(error) if busy(&error) => Err(taken()),
        Err(error) => Err(error).context("generic XDP is refused too"),
    }
}

/// How the way out is guarded.
struct Outward {
    /// Priority of the filter, if it is one.
    clsact: Option<u16>,
    /// The program took another one's place.
    taken_over: bool,
}

fn put_egress(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    index: u32,
    pins: &Pins,
    before: Option<&Attached>,
) -> anyhow::Result<Outward> {
    let pin = pins.link(&interface.name, Side::Out);
    if interface.egress != Egress::Clsact {
        match put_tcx(programs, interface, index, &pin) {
            Ok(taken_over) => {
                if let Some(priority) = before.and_then(|before| before.clsact) {
                    remove_filter(&interface.name, priority);
                }
                return Ok(Outward {
                    clsact: None,
                    taken_over,
                });
            }
            Err(error) if interface.egress == Egress::Tcx => {
                return Err(error).context("the kernel refuses tcx (Linux 6.6 has it)");
            }
            Err(error) => {
                tracing::info!(interface = interface.name, error = %chain(error.as_ref()), "no tcx; egress goes by clsact");
            }
        }
    }
    let taken_over = put_filter(programs, &interface.name)?;
    // A link from before stood until now; both let pass what both let pass.
    unlink(&pin)?;
    Ok(Outward {
        clsact: Some(CLSACT_PRIORITY),
        taken_over,
    })
}

/// Puts the program into the pinned tcx link, or into a new one; whether there was one.
fn put_tcx(
    programs: &mut Pair,
    interface: &InterfaceSettings,
    index: u32,
    pin: &Path,
) -> anyhow::Result<bool> {
    let program = &mut programs.egress;
    if is_linked_to(pin, index) {
        replace(pin, program.fd()?.as_fd())?;
        return Ok(true);
    }
    unlink(pin)?;
    let id = program.attach_with_options(
        &interface.name,
        TcAttachType::Egress,
        TcAttachOptions::TcxOrder(LinkOrder::first()),
    )?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(false)
}

/// Puts the program into the filter that is there, which the kernel does between two packets, or
/// into a new one; whether there was one.
fn put_filter(programs: &mut Pair, interface: &str) -> anyhow::Result<bool> {
    let program = &mut programs.egress;
    // What keeps it from being replaced keeps a new one from being attached, or is that it is not
    // there.
    let replaced = filter(interface, CLSACT_PRIORITY)
        .ok()
        .and_then(|link| program.attach_to_link(link).ok());
    let (id, taken_over) = match replaced {
        Some(id) => (id, true),
        None => {
            // It is there already from earlier, or attaching fails with a better message.
            let _ = qdisc_add_clsact(interface);
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: CLSACT_PRIORITY,
                handle: CLSACT_HANDLE.into(),
                classid: None,
            });
            let id = program
                .attach_with_options(interface, TcAttachType::Egress, options)
                .context("the kernel refuses a clsact filter")?;
            (id, false)
        }
    };
    // A filter stays by itself; dropping the link would remove it.
    std::mem::forget(program.take_link(id)?);
    Ok(taken_over)
}

/// Removes an egress filter; dropping the link that names it does.
fn remove_filter(interface: &str, priority: u16) {
    drop(filter(interface, priority));
}

/// Names an egress filter as a link, whether it is there or not.
fn filter(interface: &str, priority: u16) -> std::io::Result<SchedClassifierLink> {
    let handle = CLSACT_HANDLE.into();
    SchedClassifierLink::attached(interface, TcAttachType::Egress, priority, handle, None)
}

/// Puts a program into a pinned link that stands. If the kernel refuses, what was there goes on.
fn replace(pin: &Path, program: BorrowedFd<'_>) -> anyhow::Result<()> {
    sys::open_pin(pin)
        .and_then(|link| sys::update_link(link.as_fd(), program))
        .with_context(|| format!("pinned link {} cannot be updated", pin.display()))
}

/// Takes a pinned link's program off, if there is one.
fn unlink(pin: &Path) -> anyhow::Result<()> {
    // A link whose device has gone cannot be detached and need not be.
    let _ = sys::open_pin(pin).and_then(|link| sys::detach_link(link.as_fd()));
    remove(pin)
}

/// Whether there is a link at `pin` that runs the program pinned at `program`.
pub(super) fn runs(pin: &Path, program: &Xdp) -> bool {
    let running = sys::open_pin(pin).and_then(|link| sys::link_program(link.as_fd()));
    running.is_ok_and(|running| program.info().is_ok_and(|info| info.id() == running))
}

/// Whether there is a link at `pin` that is attached to the interface with this index: a device
/// that was made anew has another one.
pub(super) fn is_linked_to(pin: &Path, index: u32) -> bool {
    sys::open_pin(pin)
        .and_then(|link| sys::link_interface(link.as_fd()))
        .is_ok_and(|interface| interface == index)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Refuses an egress setting that cannot work with others.
pub(super) fn check(interfaces: &[InterfaceSettings]) -> anyhow::Result<()> {
    for (position, interface) in interfaces.iter().enumerate() {
        if interfaces[..position]
            .iter()
            .any(|other| other.name == interface.name)
        {
            bail!("interface {} is named twice", interface.name);
        }
    }
    Ok(())
}
