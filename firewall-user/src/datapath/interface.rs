//! What has to be known of a network interface before a program is attached to it.
#![expect(unsafe_code, reason = "ioctl with structures laid out by hand")]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, SocketType, socket};

/// Looks up an interface that Palisade can protect: it exists and its frames begin with an
/// Ethernet header.
pub(super) fn ethernet_index(name: &str) -> anyhow::Result<u32> {
    find(name)?
        .with_context(|| format!("interface {name} does not exist; `ip link` lists those that do"))
}

/// As [`ethernet_index`]; `None` if there is no such device.
pub(super) fn find(name: &str) -> anyhow::Result<Option<u32>> {
    let query = Query::new(name)?;
    let index = match query.index() {
        Ok(index) => index,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("interface {name}")),
    };
    let kind = query
        .hardware_type()
        .with_context(|| format!("interface {name}"))?;
    // The loopback device carries Ethernet headers too, but all of its addresses are martians.
    if kind == libc::ARPHRD_LOOPBACK {
        bail!(
            "interface {name} is the loopback device; Palisade protects interfaces that face a network"
        );
    }
    if kind != libc::ARPHRD_ETHER {
        bail!(
            "interface {name} is not Ethernet (hardware type {kind}); Palisade protects Ethernet interfaces"
        );
    }
    Ok(Some(index))
}

/// The names of all interfaces that are there, for whoever misspelled one.
pub fn others() -> String {
    let named = nix::net::if_::if_nameindex().map(|interfaces| {
        let names = interfaces.iter().map(|one| one.name().to_string_lossy());
        names.collect::<Vec<_>>().join(", ")
    });
    named.unwrap_or_else(|error| format!("unknown: {error}"))
}

/// Tells the driver to leave VLAN tags in what it receives.
pub(super) fn show_vlan_tags(name: &str) -> anyhow::Result<()> {
    let query = Query::new(name)?;
    let flags = query.flags()?;
    if flags & ETH_FLAG_RXVLAN == 0 {
        return Ok(());
    }
    let refused = || {
        format!(
            "the policy looks at VLAN tags, but {name} takes them off before XDP sees them and \
             `ethtool -K {name} rxvlan off` is refused"
        )
    };
    query
        .set_flags(flags & !ETH_FLAG_RXVLAN)
        .with_context(refused)?;
    if query.flags()? & ETH_FLAG_RXVLAN != 0 {
        bail!(refused());
    }
    Ok(())
}

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// A socket to ask about one interface.
pub(crate) struct Query {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Query {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            bail!(
                "interface name \"{name}\" must have 1 to {} bytes",
                libc::IFNAMSIZ - 1
            );
        }
        let mut bytes = [0; libc::IFNAMSIZ];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .context("a socket to ask about interfaces")?;
        Ok(Self {
            socket,
            name: bytes,
        })
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { zeroed() };
        request.ifr_name = self.name;
        request
    }

    fn call(&self, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the request is a whole ifreq that outlives the call.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), number, &raw mut *request) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    pub(crate) fn index(&self) -> io::Result<u32> {
        let mut request = self.request();
        self.call(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: the kernel filled this field.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    pub(crate) fn hardware_type(&self) -> io::Result<u16> {
        let mut request = self.request();
        self.call(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: the kernel filled this field.
        Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
    }

    /// In bytes, without the Ethernet header.
    pub(crate) fn mtu(&self) -> io::Result<u32> {
        let mut request = self.request();
        self.call(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: the kernel filled this field.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    pub(crate) fn flags(&self) -> io::Result<u32> {
        self.ethtool(ETHTOOL_GFLAGS, 0)
    }

    fn set_flags(&self, flags: u32) -> io::Result<()> {
        self.ethtool(ETHTOOL_SFLAGS, flags).map(drop)
    }

    /// Asks ethtool's interface with a structure that begins with the command; the answer is written
    /// over it, and must fit.
    pub(crate) fn ethtool_words(&self, words: &mut [u64]) -> io::Result<()> {
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        let mut request = self.request();
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        self.call(SIOCETHTOOL, &mut request)
    }

    fn ethtool(&self, command: u32, data: u32) -> io::Result<u32> {
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        let mut value = EthtoolValue { command, data };
        let mut request = self.request();
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        self.call(SIOCETHTOOL, &mut request)?;
        Ok(value.data)
    }
}
