//! Panics of libraries on damaged input, as a result.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that panics on some damaged input; None if it did.
///
/// What the call has changed must not be used after that. A panic hook that asks
/// [`is_contained`] can leave the panic unmentioned.
pub fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call)).ok();
    CONTAINED.set(outer);
    result
}

/// Returns true within a call that [`contain`] makes on this thread.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained_and_then_no_longer() {
        assert_eq!(contain(|| 1 + usize::from(is_contained())), Some(2));
        let empty: Vec<u8> = Vec::new();
        assert_eq!(contain(|| contain(|| empty[7]).is_none() && is_contained()), Some(true));
        assert_eq!(contain(|| empty[7]), None);
        assert!(!is_contained());
    }
}
