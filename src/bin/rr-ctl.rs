//! The `rr-ctl` program.

fn main() -> std::process::ExitCode {
    rr_master::ctl::main()
}
