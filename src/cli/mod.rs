//! The face that a person meets: the command line and everything that is printed.
//!
//! It uses the public API of the library only. All clap is in [`args`], all printing in [`output`], every exit status
//! in [`exit`]; each subcommand has a file of its own. Whatever goes wrong ends as one [`exit::Failure`] in one line.

mod address;
mod args;
mod create;
mod demo;
mod dht;
mod exit;
mod get;
mod inquiry;
mod known;
mod legacy;
mod lookup;
mod magnet;
mod network;
mod output;
mod payload;
mod progress;
mod rate;
mod save;
mod seed;
mod session;
mod show;
mod signals;
mod source;
mod state;
mod state_cmd;
mod state_move;
mod temporary;
mod transfer;
mod verify;
mod watch;
mod work;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;

use args::{Cli, Command};
use exit::{Exit, Failure};
use output::Output;

/// Does what the command line says and returns the status to exit with.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(legacy::rewrite(args)) {
        Ok(cli) => cli,
        Err(error) => {
            Output::clap(&error);
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return if asked { Exit::Done } else { Exit::Usage }.into();
        }
    };
    let out = Arc::new(Output::new(&cli.verbosity));
    out.install_log();
    Output::install_panic_hook();
    let done = catch_unwind(AssertUnwindSafe(|| dispatch(cli.command, &out)));
    let exit = match done {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            out.fail(&failure);
            failure.exit
        }
        // The hook told of it.
        Err(_panic) => Exit::Unknown,
    };
    exit.into()
}

fn dispatch(command: Command, out: &Arc<Output>) -> Result<Exit, Failure> {
    match command {
        Command::Get(args) => get::run(&args, out),
        Command::Seed(args) => seed::run(&args, out),
        Command::Create(args) => create::run(&args, out),
        Command::Show(args) => show::run(&args, out),
        Command::Magnet(args) => magnet::run(&args, out),
        Command::Verify(args) => verify::run(&args, out),
        Command::State(args) => state_cmd::run(&args, out),
        Command::Dht(args) => dht::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
    }
}
