//! The binary: parse, run, exit code.

fn main() -> std::process::ExitCode {
    blockhouse::cli::main()
}
