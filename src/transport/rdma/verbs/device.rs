//! Devices: the list of them, while somebody looks at it.
#![expect(unsafe_code, reason = "the list is the library's memory")]

use super::VerbsError;
use super::abi::RawDevice;
use super::library::{Library, library};
use std::ffi::CStr;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Every device of this machine. A device that is opened outlives the list.
#[derive(Debug)]
pub(super) struct DeviceList {
    library: &'static Library,
    first: NonNull<*mut RawDevice>,
    count: usize,
}

impl DeviceList {
    /// Asks the kernel.
    pub(super) fn get() -> Result<Self, VerbsError> {
        let library = library()?;
        let mut count = 0;
        // SAFETY: the function writes one number through a pointer to one.
        let first = unsafe { (library.ibv_get_device_list)(&raw mut count) };
        let Some(first) = NonNull::new(first) else {
            return Err(VerbsError::NoKernel { source: Arc::new(io::Error::last_os_error()) });
        };
        let list = Self { library, first, count: usize::try_from(count).unwrap_or(0) };
        if list.count == 0 { Err(VerbsError::NoDevice) } else { Ok(list) }
    }

    /// Their names, in the kernel's order.
    pub(super) fn names(&self) -> Vec<String> {
        self.devices().map(|device| self.name(device)).collect()
    }

    /// The device of a name.
    pub(super) fn find(&self, name: &str) -> Result<*mut RawDevice, VerbsError> {
        let found = self.devices().find(|device| self.name(*device) == name);
        found.ok_or_else(|| VerbsError::UnknownDevice { name: name.to_owned(), there: self.names() })
    }

    fn devices(&self) -> impl Iterator<Item = *mut RawDevice> {
        // SAFETY: the library gave an array of `count` pointers, which lives until this list is dropped.
        let devices = unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) };
        devices.iter().copied()
    }

    fn name(&self, device: *mut RawDevice) -> String {
        // SAFETY: the device is of this list, which lives.
        let name = unsafe { (self.library.ibv_get_device_name)(device) };
        // SAFETY: the library gives a string of its own with an end, which lives as long as the device.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: the list came from the library and nobody has a pointer into it any more.
        unsafe { (self.library.ibv_free_device_list)(self.first.as_ptr()) };
    }
}
