//! Makes the JavaScript around the module for the web.
//!
//!     cargo run --manifest-path bindings/web/glue/Cargo.toml -- MODULE.wasm FOLDER

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let given: Vec<_> = std::env::args_os().skip(1).collect();
    let [module, folder] = given.as_slice() else {
        eprintln!("give the module and the folder for what is made of it");
        return ExitCode::from(2);
    };
    // Types are written by hand: js/tipi.d.ts. The module lies beside what is made.
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).typescript(false).omit_default_module_path(false);
    let made = bindgen.web(true).and_then(|bindgen| bindgen.generate(folder));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:?}", module.display());
            ExitCode::FAILURE
        }
    }
}
