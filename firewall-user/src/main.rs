//! The one binary, `palisade`.

use std::process::ExitCode;

fn main() -> ExitCode {
    firewall_user::cli::main()
}
