//! Which state folder a process uses: `--state` outright, else one folder per identity below the user's state home.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::address::Listen;
use super::exit::{Exit, Failure};

/// The folder for a process with these flags.
///
/// # Errors
/// If neither a flag nor the environment says where the user's state lives.
pub(crate) fn folder(named: Option<&Path>, dht: Option<&Listen>) -> Result<PathBuf, Failure> {
    folder_in(named, dht, |name| std::env::var_os(name))
}

fn folder_in(
    named: Option<&Path>,
    dht: Option<&Listen>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        if named.as_os_str().is_empty() {
            return Err(Failure::new(Exit::Usage, "--state is empty").hint("name a folder"));
        }
        return Ok(named.to_owned());
    }
    // The XDG base directory specification has relative paths ignored.
    let absolute = |name: &str| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no HOME to keep state in")
                .hint("name a folder with --state DIR")
        })?;
    Ok(home.join("seedbank").join(identity(dht)))
}

/// A fixed DHT port is an identity of its own, so that several nodes of one user do not collide.
fn identity(dht: Option<&Listen>) -> String {
    let port = dht
        .and_then(|listen| listen.0.as_ref())
        .map_or(0, super::address::Address::port);
    match port {
        0 => "default".to_owned(),
        port => format!("node-{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(named: Option<&str>, dht: Option<&str>, vars: &[(&str, &str)]) -> Option<String> {
        let listen = dht.map(|text| text.parse::<Listen>().unwrap());
        let env = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let folder = folder_in(named.map(Path::new), listen.as_ref(), env).ok()?;
        Some(folder.into_os_string().into_string().unwrap())
    }

    #[test]
    fn xdg_comes_before_home() {
        let vars = [("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(chosen(None, None, &vars).unwrap(), "/x/seedbank/default");
        assert_eq!(
            chosen(None, None, &vars[1..]).unwrap(),
            "/h/.local/state/seedbank/default"
        );
        assert_eq!(
            chosen(None, None, &[("XDG_STATE_HOME", "rel"), ("HOME", "/h")]).unwrap(),
            "/h/.local/state/seedbank/default"
        );
        assert_eq!(chosen(None, None, &[("HOME", "")]), None);
    }

    #[test]
    fn a_dht_port_is_an_identity() {
        let vars = [("HOME", "/h")];
        let at = |dht| chosen(None, Some(dht), &vars).unwrap();
        assert_eq!(at(":20000"), "/h/.local/state/seedbank/node-20000");
        assert_eq!(at("127.0.0.1:20000"), "/h/.local/state/seedbank/node-20000");
        assert_eq!(at(":0"), "/h/.local/state/seedbank/default");
        assert_eq!(at(""), "/h/.local/state/seedbank/default");
    }

    #[test]
    fn a_named_folder_is_taken_outright() {
        assert_eq!(chosen(Some("s"), Some(":20000"), &[]).unwrap(), "s");
        assert_eq!(chosen(Some(""), None, &[("HOME", "/h")]), None);
    }
}
