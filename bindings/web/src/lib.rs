//! tipi in a page: what the worker of `bindings/web` calls. It holds no logic of its own.
//!
//! The worker puts a request on the desk (`js/tipi-turn.js`), calls [`tipi_run`] as a function that may be suspended, and finds
//! the answer there. So all that passes between the two goes through two functions, and nothing here is asynchronous.

#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, reason = "the package's types have the words: js/tipi.d.ts")]

mod desk;
mod files;
mod pictures;
mod values;
mod work;

use wasm_bindgen::prelude::*;

#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// Does what the request on the desk asks for.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_run() {
    let request = desk::request();
    match work::answer(&request) {
        Ok(answer) => desk::reply(&answer),
        Err(error) => desk::fail(&kind(&error), &error.to_string()),
    }
}

/// The name of an error's kind, as [`tipi::Error`] has it.
fn kind(error: &tipi::Error) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}
