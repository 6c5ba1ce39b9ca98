//! The command line of the client that seedbank grew out of: one-dash flags and modes instead of subcommands.
//!
//! `-seed X …` is `seed … X`, `-get X …` is `get … X`, and flags without either are a DHT-only node. One dash or two,
//! values apart or attached with `=`. Known flags may keep their one dash after a subcommand too.

use std::ffi::{OsStr, OsString};

/// Flags of the original client that carry over by name.
const CARRIED: [&str; 6] = [
    "dest",
    "tcp-listen",
    "dht-listen",
    "bootstrap",
    "peer",
    "keep",
];
/// Flags that came later and take a value, which is no place to look for a subcommand.
const WITH_VALUE: [&str; 6] = ["log", "state", "io", "max-down", "max-up", "config"];
/// What the original called its modes.
const MODES: [&str; 2] = ["seed", "get"];

/// One argument as seen from here.
enum Token<'a> {
    /// A flag's name without dashes and the value attached to it.
    Flag(&'a str, Option<OsString>),
    /// Anything else: a path, a subcommand, a value.
    Other,
}

/// Rewrites the original client's command line to ours; any other passes unchanged. `args` begins with the program's name.
pub(crate) fn rewrite(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let program: Vec<OsString> = args.next().into_iter().collect();
    let mut rest = Vec::new();
    let mut sources: [Vec<OsString>; MODES.len()] = Default::default();
    let mut carried = false;
    let mut named = false;
    let mut help = false;
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args.by_ref());
            named = true;
            break;
        }
        let Token::Flag(name, attached) = token(&arg) else {
            named |= !is_dashed(&arg);
            rest.push(arg);
            continue;
        };
        let mode = MODES.iter().position(|&mode| mode == name);
        if let (Some(mode), false) = (mode, named) {
            let Some(value) = attached.or_else(|| args.next()) else {
                // For clap to say what is missing.
                return [program, vec![name.into()], rest].concat();
            };
            // The original took an empty name for no name.
            sources[mode].extend((!value.is_empty()).then_some(value));
            carried = true;
        } else if CARRIED.contains(&name) {
            carried = true;
            rest.push(format!("--{name}").into());
            match attached.or_else(|| args.next()) {
                Some(value) => attach(&mut rest, &value),
                None => break,
            }
        } else {
            help |= matches!(name, "help" | "h" | "version" | "V");
            let takes_next = WITH_VALUE.contains(&name) && attached.is_none();
            rest.push(arg);
            rest.extend(takes_next.then(|| args.next()).flatten());
        }
    }
    if named || help || !carried {
        // A mode's flag before a subcommand is put back for clap to refuse by name, not dropped.
        let stray = MODES
            .iter()
            .zip(&sources)
            .filter(|(_, found)| !found.is_empty());
        rest.extend(
            stray
                .filter(|_| !help)
                .map(|(mode, _)| format!("--{mode}").into()),
        );
        return [program, rest].concat();
    }
    let chosen = sources.iter().position(|sources| !sources.is_empty());
    let mode = chosen.map_or("dht", |at| MODES[at]);
    // With both modes given, the second one's flag is left for clap to refuse by name.
    let both = sources.iter().all(|sources| !sources.is_empty());
    let stray = both.then(|| OsString::from("--get"));
    let mut line = [program, vec![mode.into()], rest].concat();
    line.extend(stray);
    if let Some(at) = chosen {
        line.push("--".into());
        line.append(&mut sources[at]);
    }
    line
}

/// Joins the value to the flag before it, so that a value with a dash in front is not taken for a flag.
fn attach(rest: &mut [OsString], value: &OsStr) {
    if let Some(flag) = rest.last_mut() {
        flag.push("=");
        flag.push(value);
    }
}

fn is_dashed(arg: &OsStr) -> bool {
    arg.len() > 1 && arg.as_encoded_bytes().starts_with(b"-")
}

fn token(arg: &OsString) -> Token<'_> {
    if !is_dashed(arg) {
        return Token::Other;
    }
    let bytes = arg.as_encoded_bytes();
    let end = bytes
        .iter()
        .position(|&byte| byte == b'=')
        .unwrap_or(bytes.len());
    let start = if bytes.starts_with(b"--") { 2 } else { 1 };
    let Some(Ok(name)) = bytes.get(start..end).map(std::str::from_utf8) else {
        return Token::Other;
    };
    let attached = (end < bytes.len()).then(|| after(arg, end + 1));
    Token::Flag(name, attached)
}

/// The part of `arg` from byte `at` on, which follows an ASCII `=`.
fn after(arg: &OsStr, at: usize) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(&arg.as_bytes()[at..]).to_owned()
    }
    #[cfg(not(unix))]
    {
        arg.to_string_lossy()[at..].to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &[&str]) -> String {
        let args = std::iter::once("seedbank").chain(line.iter().copied());
        let words: Vec<String> = rewrite(args.map(OsString::from))
            .into_iter()
            .skip(1)
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn the_four_terminals_of_the_original_demo_are_understood() {
        assert_eq!(
            rewritten(&["-dht-listen", ":10000", "-tcp-listen", ":10001"]),
            "dht --dht-listen=:10000 --tcp-listen=:10001"
        );
        assert_eq!(
            rewritten(&[
                "-seed",
                "big.mp4",
                "-dht-listen",
                ":20000",
                "-tcp-listen",
                ":20001",
                "-bootstrap",
                ":10000"
            ]),
            "seed --dht-listen=:20000 --tcp-listen=:20001 --bootstrap=:10000 -- big.mp4"
        );
        assert_eq!(
            rewritten(&[
                "-get",
                "big.mp4.bit",
                "-dest",
                "d",
                "-bootstrap",
                ":10000",
                "-keep",
                "1200"
            ]),
            "get --dest=d --bootstrap=:10000 --keep=1200 -- big.mp4.bit"
        );
    }

    #[test]
    fn one_dash_or_two_and_values_attached_are_the_same() {
        let wanted = "get --dest=d --peer=:1,:2 -- m.bit";
        assert_eq!(
            rewritten(&["--get=m.bit", "-dest=d", "--peer=:1,:2"]),
            wanted
        );
        assert_eq!(
            rewritten(&["-get=m.bit", "--dest", "d", "-peer", ":1,:2"]),
            wanted
        );
    }

    #[test]
    fn a_subcommand_line_passes_as_it_is() {
        assert_eq!(
            rewritten(&["get", "a.bit", "--state", "s"]),
            "get a.bit --state s"
        );
        assert_eq!(
            rewritten(&["--log", "json", "get", "a"]),
            "--log json get a"
        );
        assert_eq!(rewritten(&["seed", "--", "-get"]), "seed -- -get");
        assert_eq!(rewritten(&["get", "a", "-dest", "d"]), "get a --dest=d");
        assert_eq!(rewritten(&["-h"]), "-h");
        assert_eq!(rewritten(&["-vv"]), "-vv");
        assert_eq!(rewritten(&[]), "");
    }

    #[test]
    fn empty_values_stay_empty() {
        assert_eq!(
            rewritten(&["-seed", "f", "-dht-listen", "", "-bootstrap="]),
            "seed --dht-listen= --bootstrap= -- f"
        );
        assert_eq!(
            rewritten(&["-get", "", "-dht-listen", ":1"]),
            "dht --dht-listen=:1"
        );
    }

    #[test]
    fn later_flags_mix_with_the_original_ones() {
        assert_eq!(
            rewritten(&["--log", "json", "-seed", "-f", "--state", "s"]),
            "seed --log json --state s -- -f"
        );
        assert_eq!(rewritten(&["-get", "a", "-help"]), "-help");
    }

    #[test]
    fn both_modes_at_once_are_left_for_the_parser_to_refuse() {
        assert_eq!(rewritten(&["-seed", "a", "-get", "b"]), "seed --get -- a");
        assert_eq!(rewritten(&["-seed", "a", "get", "b"]), "get b --seed");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf8_passes_whole() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(b"-seed=a\xff=b".to_vec());
        let line = rewrite([OsString::from("seedbank"), odd]);
        assert_eq!(line.last(), Some(&OsString::from_vec(b"a\xff=b".to_vec())));
    }
}
