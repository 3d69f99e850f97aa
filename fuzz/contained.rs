//! Panics of libraries that our readers contain.

use std::{panic, sync::Once};

use prospect_core::contain::is_contained;

/// Makes contained panics no findings: the fuzzer's hook aborts at each panic.
pub(crate) fn allow() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_contained() {
                abort(panic);
            }
        }));
    });
}
