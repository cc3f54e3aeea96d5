//! The library: libibverbs, opened when the first `rdma://` endpoint is used, kept until the process ends.
//!
//! Architecture invariant: nothing here is linked. A machine without rdma-core builds and runs the same binary.
#![expect(unsafe_code, reason = "functions of a shared library are found by name")]

use super::VerbsError;
use super::abi::{
    DeviceAttributes, PairAttributes, PairCreation, PortAttributes, RawChannel, RawContext, RawDevice, RawDomain,
    RawEvent, RawGid, RawPair, RawQueue, RawRegion,
};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// Its name, with the version of the ABI that is declared here: stable since 2009.
const LIBRARY: &str = "libibverbs.so.1";

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used of it.
        #[derive(Debug)]
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            fn open() -> Result<Self, VerbsError> {
                // SAFETY: its initialisers read the environment and register drivers; they are made to be loaded so.
                let opened = unsafe { libloading::Library::new(LIBRARY) };
                let library = opened.map_err(|error| VerbsError::NoLibrary { reason: error.to_string() })?;
                // Never unloaded: drivers leave threads and handlers behind.
                let library = Box::leak(Box::new(library));
                let missing = |name| move |_| VerbsError::OldLibrary { function: name };
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is that of the header; the test of the ABI compares what it passes on.
                        let found = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) };
                        *found.map_err(missing(stringify!($name)))?
                    },)*
                })
            }
        }
    };
}

functions! {
    ibv_get_device_list(*mut c_int) -> *mut *mut RawDevice;
    ibv_free_device_list(*mut *mut RawDevice);
    ibv_get_device_name(*mut RawDevice) -> *const c_char;
    ibv_open_device(*mut RawDevice) -> *mut RawContext;
    ibv_close_device(*mut RawContext) -> c_int;
    ibv_query_device(*mut RawContext, *mut DeviceAttributes) -> c_int;
    ibv_query_port(*mut RawContext, u8, *mut PortAttributes) -> c_int;
    ibv_query_gid(*mut RawContext, u8, c_int, *mut RawGid) -> c_int;
    ibv_get_async_event(*mut RawContext, *mut RawEvent) -> c_int;
    ibv_ack_async_event(*mut RawEvent);
    ibv_alloc_pd(*mut RawContext) -> *mut RawDomain;
    ibv_dealloc_pd(*mut RawDomain) -> c_int;
    ibv_reg_mr(*mut RawDomain, *mut c_void, usize, c_int) -> *mut RawRegion;
    ibv_dereg_mr(*mut RawRegion) -> c_int;
    ibv_create_comp_channel(*mut RawContext) -> *mut RawChannel;
    ibv_destroy_comp_channel(*mut RawChannel) -> c_int;
    ibv_create_cq(*mut RawContext, c_int, *mut c_void, *mut RawChannel, c_int) -> *mut RawQueue;
    ibv_destroy_cq(*mut RawQueue) -> c_int;
    ibv_get_cq_event(*mut RawChannel, *mut *mut RawQueue, *mut *mut c_void) -> c_int;
    ibv_ack_cq_events(*mut RawQueue, c_uint);
    ibv_create_qp(*mut RawDomain, *mut PairCreation) -> *mut RawPair;
    ibv_modify_qp(*mut RawPair, *mut PairAttributes, c_int) -> c_int;
    ibv_destroy_qp(*mut RawPair) -> c_int;
}

/// The library, opened by the first caller.
///
/// # Errors
/// It is not installed, or too old; the same answer for the rest of the process's life.
pub(super) fn library() -> Result<&'static Library, VerbsError> {
    static LIBRARY: OnceLock<Result<Library, VerbsError>> = OnceLock::new();
    LIBRARY.get_or_init(Library::open).as_ref().map_err(Clone::clone)
}
