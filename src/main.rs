//! The `rr-master` program.

fn main() -> std::process::ExitCode {
    rr_master::cli::main()
}
