//! The addresses of systems that are in use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::SystemAddress;

/// The addresses of the systems that are watched, or about to be. Two of them never have one boot
/// id, so a search needs them as they are at its end.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse(Arc<Mutex<BTreeMap<String, usize>>>);

/// One use of an address, until it is dropped. A search that was cancelled may use an address as
/// long as the next search does.
#[derive(Debug)]
pub(super) struct AddressUse {
    all: InUse,
    address: String,
}

impl InUse {
    pub(super) fn add(&self, address: &SystemAddress) -> AddressUse {
        let address = address.to_string();
        *self.lock().entry(address.clone()).or_default() += 1;
        AddressUse { all: self.clone(), address }
    }

    pub(super) fn has(&self, address: &str) -> bool {
        self.lock().contains_key(address)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressUse {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}
