//! Panics that nobody asked for: an actor that panics by itself is restarted by its guard, and must not go unnoticed.

use std::cell::RefCell;
use std::panic;

thread_local! {
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on panics are noted, in the thread that they happen in, and not printed.
pub fn listen() {
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("no message");
        if text != "asked to" {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            HEARD.with_borrow_mut(|heard| heard.push(format!("{text}, at {place}")));
        }
    }));
}

/// Those of this thread since the last look.
pub fn heard() -> Vec<String> {
    HEARD.take()
}
