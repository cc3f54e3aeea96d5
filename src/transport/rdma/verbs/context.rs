//! Contexts: opened devices, one a process and device, as long as anybody uses it.
#![expect(unsafe_code, reason = "the device answers through pointers")]

use super::VerbsError;
use super::abi::{self, DeviceAttributes, Operations, PORT_ACTIVE, PortAttributes, RawContext, RawEvent, RawGid};
use super::async_event::AsyncEvent;
use super::device::DeviceList;
use super::library::Library;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast;

/// Events kept for who is slow to hear of them: who has missed some still learns whether the device failed.
const EVENTS_KEPT: usize = 64;

/// An opened device.
#[derive(Debug)]
pub(in super::super) struct Context {
    pub(super) library: &'static Library,
    raw: NonNull<RawContext>,
    name: String,
    attributes: DeviceAttributes,
    failed: AtomicBool,
    events: broadcast::Sender<AsyncEvent>,
    #[cfg(test)]
    feigned: std::sync::OnceLock<super::feigned::Feigned>,
}

// SAFETY: libibverbs locks what threads share; a context may be used by several.
unsafe impl Send for Context {}

// SAFETY: as above.
unsafe impl Sync for Context {}

/// What a device can do at most.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct DeviceLimits {
    pub(in super::super) ports: u8,
    pub(in super::super) requests_max: u32,
    pub(in super::super) completions_max: u32,
    /// READs on their way at a time: those we begin, those we serve.
    pub(in super::super) reads_max: u8,
    pub(in super::super) reads_served_max: u8,
}

/// How a port is.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct PortState {
    pub(in super::super) active: bool,
    pub(in super::super) state: &'static str,
    pub(in super::super) mtu_bytes: u32,
    pub(in super::super) mtu_bytes_max: u32,
    pub(in super::super) gids: u32,
    pub(in super::super) message_bytes_max: u32,
    pub(in super::super) lid: u16,
    pub(in super::super) ethernet: bool,
}

impl Context {
    /// The names of all devices.
    pub(in super::super) fn names() -> Result<Vec<String>, VerbsError> {
        Ok(DeviceList::get()?.names())
    }

    /// The device of a name: the one that is open already, where it is and has not failed. One that failed is opened
    /// anew: its driver may have brought it back, or says why not.
    pub(in super::super) fn open(name: &str) -> Result<Arc<Self>, VerbsError> {
        static OPEN: Mutex<Vec<Weak<Context>>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|context| context.upgrade().is_some_and(|context| !context.has_failed()));
        if let Some(context) = open.iter().filter_map(Weak::upgrade).find(|context| context.name == name) {
            return Ok(context);
        }
        let context = Arc::new(Self::open_anew(name)?);
        open.push(Arc::downgrade(&context));
        Ok(context)
    }

    fn open_anew(name: &str) -> Result<Self, VerbsError> {
        let list = DeviceList::get()?;
        let device = list.find(name)?;
        let library = super::library::library()?;
        // SAFETY: the device is of a list that lives.
        let raw = unsafe { (library.ibv_open_device)(device) };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::not_opened(name))?;
        let mut attributes = MaybeUninit::<DeviceAttributes>::zeroed();
        // SAFETY: the context is open, and the function fills the struct of that size.
        let failed = unsafe { (library.ibv_query_device)(raw.as_ptr(), attributes.as_mut_ptr()) };
        // SAFETY: numbers, which are valid as zeroes and as whatever was written.
        let attributes = unsafe { attributes.assume_init() };
        let context = Self {
            library,
            raw,
            name: name.to_owned(),
            attributes,
            failed: AtomicBool::new(false),
            events: broadcast::Sender::new(EVENTS_KEPT),
            #[cfg(test)]
            feigned: std::sync::OnceLock::new(),
        };
        if failed == 0 { Ok(context) } else { Err(VerbsError::returned("cannot ask the RDMA device", failed)) }
    }

    /// Its name.
    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn raw(&self) -> *mut RawContext {
        self.raw.as_ptr()
    }

    pub(super) fn operations(&self) -> &Operations {
        // SAFETY: the context lives as long as `self`, and its table is written once, when it is opened.
        let context = unsafe { self.raw.as_ref() };
        &context.operations
    }

    /// What it can do.
    pub(in super::super) fn limits(&self) -> DeviceLimits {
        let number = |value| u32::try_from(value).unwrap_or(0);
        let small = |value| u8::try_from(value).unwrap_or(u8::MAX);
        DeviceLimits {
            ports: self.attributes.phys_port_cnt,
            requests_max: number(self.attributes.max_qp_wr),
            completions_max: number(self.attributes.max_cqe),
            reads_max: small(self.attributes.max_qp_init_rd_atom),
            reads_served_max: small(self.attributes.max_qp_rd_atom),
        }
    }

    /// How a port is, now.
    pub(in super::super) fn port(&self, port: u8) -> Result<PortState, VerbsError> {
        let ports = self.attributes.phys_port_cnt;
        if !(1..=ports).contains(&port) {
            return Err(VerbsError::UnknownPort { device: self.name.clone(), port, ports });
        }
        let mut attributes = MaybeUninit::<PortAttributes>::zeroed();
        // SAFETY: the context is open, and the function fills no more than the struct.
        let failed = unsafe { (self.library.ibv_query_port)(self.raw(), port, attributes.as_mut_ptr()) };
        // SAFETY: numbers, which are valid as zeroes and as whatever was written.
        let attributes = unsafe { attributes.assume_init() };
        if failed != 0 {
            return Err(VerbsError::returned("cannot ask the port", failed));
        }
        let states = ["unknown", "down", "initialising", "armed", "active", "deferred"];
        Ok(PortState {
            active: attributes.state == PORT_ACTIVE,
            state: usize::try_from(attributes.state).ok().and_then(|state| states.get(state)).unwrap_or(&"unknown"),
            mtu_bytes: mtu_bytes(attributes.active_mtu),
            mtu_bytes_max: mtu_bytes(attributes.max_mtu),
            gids: u32::try_from(attributes.gid_tbl_len).unwrap_or(0),
            message_bytes_max: attributes.max_msg_sz,
            lid: attributes.lid,
            ethernet: attributes.link_layer == abi::LINK_ETHERNET,
        })
    }

    /// A GID of a port; `None` where the table has none at that index.
    pub(in super::super) fn gid(&self, port: u8, index: u32) -> Option<[u8; 16]> {
        let mut gid = [0; 16];
        let index = i32::try_from(index).ok()?;
        // SAFETY: the context is open, and the function writes 16 bytes.
        let failed = unsafe { (self.library.ibv_query_gid)(self.raw(), port, index, (&raw mut gid).cast::<RawGid>()) };
        (failed == 0 && gid != [0; 16]).then_some(gid)
    }

    /// Takes the next asynchronous event, tells all who hear of them, and acknowledges it, so that it keeps nobody from
    /// being destroyed. `None` where there is none now; the descriptor must not block.
    pub(in super::super) fn next_event(&self) -> Option<AsyncEvent> {
        let mut raw = RawEvent { element: std::ptr::null_mut(), kind: 0 };
        // SAFETY: the context is open, and the function fills one event.
        let failed = unsafe { (self.library.ibv_get_async_event)(self.of_events().as_ptr(), &raw mut raw) };
        if failed != 0 {
            return None;
        }
        let event = AsyncEvent { kind: raw.kind, element: raw.element.addr() };
        // Relaxed: who hears of the event does so by a lock, who only looks needs nothing else of it.
        self.failed.fetch_or(event.is_of_device(), Ordering::Relaxed);
        // Before it is acknowledged: until then what it is about cannot be destroyed, so nobody else has its address.
        let _nobody_hears = self.events.send(event);
        // SAFETY: the event was taken above, and is acknowledged once.
        unsafe { (self.library.ibv_ack_async_event)(&raw mut raw) };
        Some(event)
    }

    /// What is taken by [`Context::next_event`] from now on, on whatever thread.
    pub(in super::super) fn events(&self) -> broadcast::Receiver<AsyncEvent> {
        self.events.subscribe()
    }

    /// Whether the device has reported that it failed.
    pub(in super::super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Has the calling thread's runtime watch for asynchronous events, by a descriptor of its own.
    pub(in super::super) fn watch_events(&self) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the context lives as long as `self`, and its descriptors don't change.
        let context = unsafe { self.of_events().as_ref() };
        // SAFETY: the descriptor is open as long as the context.
        let fd = unsafe { BorrowedFd::borrow_raw(context.async_fd) };
        rustix::io::ioctl_fionbio(fd, true)?;
        let fd = fd.try_clone_to_owned()?;
        // SAFETY: an owned descriptor is open and the same as long as the watcher owns it.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(watched?)
    }

    /// The context that events are asked of.
    fn of_events(&self) -> NonNull<RawContext> {
        #[cfg(test)]
        if let Some(feigned) = self.feigned.get() {
            return feigned.raw();
        }
        self.raw
    }

    /// Takes what is written to the file for the device's asynchronous events from now on. Connections must be made
    /// after it.
    #[cfg(test)]
    pub(in super::super) fn feign_events(&self) -> io::Result<std::fs::File> {
        let whole = self.raw.as_ptr().wrapping_byte_sub(super::feigned::CONTEXT_BEGINS);
        // SAFETY: the library opened so much, as the test of the ABI compares, and it is numbers and pointers.
        let whole = unsafe { whole.cast::<super::feigned::Whole>().read() };
        let (feigned, writer) = super::feigned::Feigned::new(whole)?;
        assert!(self.feigned.set(feigned).is_ok(), "once a context");
        Ok(writer)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: whatever was made of the context holds it, so nothing of it is left.
        let failed = unsafe { (self.library.ibv_close_device)(self.raw()) };
        if failed != 0 {
            tracing::warn!(device = self.name, "the device does not close: {failed}");
        }
    }
}

/// Bytes of `enum ibv_mtu`: 1 is 256, 5 is 4096.
fn mtu_bytes(code: i32) -> u32 {
    if (1..=5).contains(&code) { 128 << code } else { 0 }
}
