//! Places: a device, a port of it and a GID, and how they are picked.
//!
//! A RoCE port has a GID for each address of its network device, so the address of an endpoint says which port it is:
//! that of the control connection, on both sides. The table may hold an address twice: RoCE v2 goes before v1.
#![forbid(unsafe_code)]

use super::options::RdmaOptions;
use super::verbs::{Context, PortState, VerbsError};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// What a connection is made at.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) context: Arc<Context>,
    pub(super) port: u8,
    pub(super) state: PortState,
    pub(super) gid_index: u8,
    pub(super) gid: [u8; 16],
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, own) = (self.context.name(), address(&self.gid));
        write!(f, "{device} port {}, GID {} ({own}), MTU {}", self.port, self.gid_index, self.state.mtu_bytes)
    }
}

impl Place {
    /// The place that owns an address, or that the options name.
    ///
    /// # Errors
    /// Which of library, kernel, device, port and GID is missing.
    pub(super) fn pick(options: &RdmaOptions, own: IpAddr) -> Result<Self, VerbsError> {
        let names = options.rdma_device.clone().map_or_else(Context::names, |name| Ok(vec![name]))?;
        let (mut refused, mut not_opened) = (None, None);
        for name in names {
            let context = match Context::open(&name) {
                Ok(context) => context,
                Err(error) => {
                    not_opened = Some(error);
                    continue;
                }
            };
            let ports = options.rdma_port.map_or(1..=context.limits().ports, |port| port..=port);
            for port in ports {
                match Self::at(&context, port, options, own) {
                    Ok(Some(place)) => return Ok(place),
                    Ok(None) => {}
                    // Another device may do, but for one that was asked for by name.
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        let named = options.rdma_device.is_some() || options.rdma_port.is_some() || options.rdma_gid.is_some();
        // A device that cannot be opened may be the one that owns it.
        Err(refused.filter(|_| named).or(not_opened).unwrap_or(VerbsError::NoOwner { address: own }))
    }

    /// The place on this port; `None` where it does not own the address.
    fn at(context: &Arc<Context>, port: u8, options: &RdmaOptions, own: IpAddr) -> Result<Option<Self>, VerbsError> {
        let state = context.port(port)?;
        let device = || context.name().to_owned();
        let place = |gid_index, gid| Self { context: Arc::clone(context), port, state, gid_index, gid };
        let found = match options.rdma_gid {
            Some(index) => {
                let missing =
                    || VerbsError::UnknownGid { device: device(), port, index: index.into(), entries: state.gids };
                Some(place(index, context.gid(port, index.into()).ok_or_else(missing)?))
            }
            None => gids(context, port, state.gids)
                .filter(|(_, gid)| {
                    address(gid) == own.to_canonical() || !state.ethernet && options.rdma_device.is_some()
                })
                .max_by_key(|(index, _)| (version(context.name(), port, *index), u8::MAX - index))
                .map(|(index, gid)| place(index, gid)),
        };
        match found {
            Some(_) if !state.active => Err(VerbsError::PortDown { device: device(), port, state: state.state }),
            found => Ok(found),
        }
    }
}

/// GIDs looked at in a table: a work request's address has 8 bits for the index.
const GIDS_MAX: u32 = 255;

/// The GIDs of a port.
fn gids(context: &Context, port: u8, entries: u32) -> impl Iterator<Item = (u8, [u8; 16])> {
    // Tables are sparse where addresses went, but not for long stretches.
    let mut empty = 0;
    (0..entries.min(GIDS_MAX))
        .map_while(move |index| {
            let gid = context.gid(port, index);
            empty = if gid.is_some() { 0 } else { empty + 1 };
            (empty <= 16).then_some(gid.map(|gid| (index as u8, gid)))
        })
        .flatten()
}

/// A GID as the address that it is on RoCE.
fn address(gid: &[u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*gid)).to_canonical()
}

/// RoCE version of a GID, as the kernel says it in files; 0 where it is neither.
fn version(device: &str, port: u8, index: u8) -> u8 {
    let path = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/types/{index}");
    match std::fs::read_to_string(path).unwrap_or_default().trim() {
        "RoCE v2" => 2,
        "IB/RoCE v1" => 1,
        _ => 0,
    }
}

/// What `freight rdma devices` prints: devices, ports, GIDs, and what would be picked for each address.
///
/// # Errors
/// Why there is nothing to print.
pub fn describe(options: &RdmaOptions) -> Result<String, VerbsError> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut addresses = Vec::new();
    let mut line = |line: fmt::Arguments<'_>| writeln!(text, "{line}").expect("strings take any text");
    for name in Context::names()? {
        let context = match Context::open(&name) {
            Ok(context) => context,
            Err(error) => {
                line(format_args!("{name}: {error}"));
                continue;
            }
        };
        line(format_args!("{name}"));
        for port in 1..=context.limits().ports {
            let state = match context.port(port) {
                Ok(state) => state,
                Err(error) => {
                    line(format_args!("  port {port}: {error}"));
                    continue;
                }
            };
            let PortState { mtu_bytes, mtu_bytes_max, .. } = state;
            let link = if state.ethernet { "Ethernet" } else { "InfiniBand" };
            line(format_args!("  port {port}: {}, {link}, MTU {mtu_bytes} of {mtu_bytes_max}", state.state));
            for (index, gid) in gids(&context, port, state.gids) {
                let version = match version(&name, port, index) {
                    2 => "RoCE v2",
                    1 => "RoCE v1",
                    _ => "InfiniBand",
                };
                line(format_args!("    GID {index:>3}: {:<40} {version}", address(&gid).to_string()));
                addresses.push(address(&gid));
            }
        }
    }
    addresses.dedup();
    for own in addresses {
        match Place::pick(options, own) {
            Ok(place) => line(format_args!("rdma://{}: {place}", shown(own))),
            Err(error) => line(format_args!("rdma://{}: {error}", shown(own))),
        }
    }
    Ok(text)
}

/// An address that a node of this process can listen at: a loopback one where a device owns it.
///
/// # Errors
/// No device owns an address.
pub fn local_address(options: &RdmaOptions) -> Result<IpAddr, VerbsError> {
    let (mut found, mut refused) = (None, VerbsError::NoDevice);
    for name in options.rdma_device.clone().map_or_else(Context::names, |name| Ok(vec![name]))? {
        let context = match Context::open(&name) {
            Ok(context) => context,
            Err(error) => {
                refused = error;
                continue;
            }
        };
        for port in 1..=context.limits().ports {
            let state = match context.port(port) {
                Ok(state) => state,
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            let own = gids(&context, port, state.gids).filter(|_| state.active && state.ethernet);
            let is_linked = |own: &IpAddr| matches!(own, IpAddr::V6(own) if own.is_unicast_link_local());
            for own in own.map(|(_, gid)| address(&gid)).filter(|own| !is_linked(own)) {
                if own.is_loopback() {
                    return Ok(own);
                }
                found = found.or(Some(own));
            }
        }
    }
    found.ok_or(refused)
}

/// An address as endpoints have it.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
