//! Protection domains: what is registered in one can be reached by queue pairs of the same one, and by no other.
#![expect(unsafe_code, reason = "the library gives pointers")]

use super::abi::RawDomain;
use super::{Context, VerbsError};
use std::ptr::NonNull;
use std::sync::Arc;

/// A protection domain.
#[derive(Debug)]
pub(in super::super) struct ProtectionDomain {
    raw: NonNull<RawDomain>,
    context: Arc<Context>,
}

// SAFETY: libibverbs locks what threads share.
unsafe impl Send for ProtectionDomain {}

// SAFETY: as above.
unsafe impl Sync for ProtectionDomain {}

impl ProtectionDomain {
    /// An empty one.
    pub(in super::super) fn new(context: &Arc<Context>) -> Result<Arc<Self>, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.library.ibv_alloc_pd)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::last("cannot make a protection domain"))?;
        Ok(Arc::new(Self { raw, context: Arc::clone(context) }))
    }

    /// The device it is on.
    pub(in super::super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn raw(&self) -> *mut RawDomain {
        self.raw.as_ptr()
    }
}

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: regions and queue pairs hold their domain, so none is left.
        let failed = unsafe { (self.context.library.ibv_dealloc_pd)(self.raw()) };
        if failed != 0 {
            tracing::warn!("a protection domain stays behind: {failed}");
        }
    }
}
