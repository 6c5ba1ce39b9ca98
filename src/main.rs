//! The `seedbank` command. Everything that it says and understands is in [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
