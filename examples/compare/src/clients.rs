//! The clients: how they are built and started, and what is in them.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use crate::Result;
use crate::report::first_line;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The clients in Rust: the folder, the name, the crates that make the difference.
const RUST: [(&str, &str, &[&str]); 4] = [
    ("ours", "this library", &["bithuman"]),
    (
        "bare-ureq",
        "ureq by hand",
        &["ureq", "serde_json", "base64"],
    ),
    ("reqwest", "reqwest::blocking", &["reqwest"]),
    ("minreq", "minreq", &["minreq"]),
];

/// One of the programs that do the job.
pub struct Client {
    pub name: &'static str,
    /// Of it, or of the crates it is made of.
    pub version: String,
    /// How it is started, but for its three arguments.
    words: Vec<OsString>,
    pub rust: Option<Package>,
}

/// What is known of a client in Rust before it runs.
pub struct Package {
    /// Its dependencies, and theirs.
    pub crates: usize,
    /// In bytes, stripped.
    pub size: f64,
    /// The same in the profile `small`.
    pub small: f64,
}

impl Client {
    /// How it is started.
    pub fn words(&self, base_url: &str, file: &Path) -> Vec<OsString> {
        // The interval is a millisecond: only the work counts.
        [&self.words[..], &[base_url.into(), file.into(), "1".into()]].concat()
    }

    /// Builds one in Rust, in the release profile.
    fn rust(&(folder, name, about): &(&'static str, &'static str, &[&str])) -> Result<Self> {
        let program = program(folder)?;
        let tree = tree(folder, &[])?;
        let version = versions(&tree, about)?;
        let size = fs::metadata(&program)?.len() as f64;
        let small = fs::metadata(build(folder, "small", &target()?, &[])?)?.len() as f64;
        let rust = Some(Package {
            crates: tree.len(),
            size,
            small,
        });
        Ok(Client {
            name,
            version,
            words: vec![program.into()],
            rust,
        })
    }

    /// All that can be run here; ours first, then bare ureq.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = RUST.iter().map(Self::rust).collect::<Result<Vec<_>>>()?;
        all.extend(Self::curl());
        all.extend(Self::requests());
        Ok(all)
    }

    fn curl() -> Option<Self> {
        let version = curl_version()?;
        Some(Client {
            name: "curl, in bash",
            version,
            words: vec![script("curl.sh")],
            rust: None,
        })
    }

    fn requests() -> Option<Self> {
        let code = "import platform, requests, sys; \
                    print(sys.executable, requests.__version__, platform.python_version())";
        let versions = first_line(Command::new("python3").args(["-c", code]))?;
        // The path may have spaces in it.
        let [python, requests, executable] = versions.rsplitn(3, ' ').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let version = format!("requests {requests} (Python {python})");
        let words = vec![executable.into(), script("python-requests.py")];
        Some(Client {
            name: "Python requests",
            version,
            words,
            rust: None,
        })
    }
}

/// What each set of this library's features takes, as a table. The system's TLS library is a part only
/// where its headers are installed.
pub fn compare_features() -> Result<ExitCode> {
    println!("| features | crates | size, stripped | in the profile `small` |");
    println!("|---|--:|--:|--:|");
    for features in [
        "",
        "rustls",
        "rustls,socks-proxy",
        "platform-verifier",
        "native-tls",
    ] {
        if features == "native-tls"
            && first_line(Command::new("pkg-config").args(["--modversion", "openssl"])).is_none()
        {
            println!("| native-tls | needs the headers of OpenSSL | | |");
            continue;
        }
        let wanted = features
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| format!("bithuman/{name}"));
        let wanted = wanted.collect::<Vec<_>>().join(",");
        let options = ["--no-default-features", "--features", &wanted];
        let target = target()?.join("features");
        let size = |profile| {
            Ok::<_, Box<dyn Error>>(fs::metadata(build("ours", profile, &target, &options)?)?.len())
        };
        let (size, small) = (size("release")? as f64 / 1e6, size("small")? as f64 / 1e6);
        let crates = tree("ours", &options)?.len();
        let name = if features.is_empty() {
            "none"
        } else {
            features
        };
        println!("| {name} | {crates} | {size:.2} MB | {small:.2} MB |");
    }
    Ok(ExitCode::SUCCESS)
}

/// A client in Rust with names for the profiler.
pub fn with_names(folder: &str) -> Result<PathBuf> {
    let known = RUST.map(|(folder, ..)| folder);
    if !known.contains(&folder) {
        return Err(format!("no such client: {folder}; there are {}", known.join(", ")).into());
    }
    build(folder, "profiling", &target()?, &[])
}

/// Of curl, if it is installed.
pub fn curl_version() -> Option<String> {
    let line = first_line(Command::new("curl").arg("--version"))?;
    Some(line.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

/// A client in Rust, in the release profile; nothing else of it is looked at.
pub fn program(folder: &str) -> Result<PathBuf> {
    build(folder, "release", &target()?, &[])
}

fn script(name: &str) -> OsString {
    Path::new(HERE).join("clients").join(name).into()
}

/// Where this executable was built: `target/release/bithuman-compare`.
fn target() -> Result<PathBuf> {
    let own = env::current_exe()?;
    Ok(own
        .ancestors()
        .nth(2)
        .ok_or("this executable is in no target folder")?
        .into())
}

fn cargo(command: &str, folder: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Alone, so that no features are on because of another client.
    cargo
        .current_dir(HERE)
        .args([command, "--package", &format!("client-{folder}")]);
    cargo
}

fn build(folder: &str, profile: &str, target: &Path, options: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo("build", folder);
    cargo
        .args(["--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(options)
        .stdout(Stdio::null());
    if !cargo.status()?.success() {
        return Err(format!("{cargo:?} failed").into());
    }
    Ok(target.join(profile).join(format!("client-{folder}")))
}

fn versions(tree: &BTreeSet<String>, about: &[&str]) -> Result<String> {
    let version = |name: &&str| {
        let of = |line: &String| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix(" v")?
                    .split(' ')
                    .next()?
                    .to_string(),
            )
        };
        let version = tree
            .iter()
            .find_map(of)
            .ok_or_else(|| format!("no {name} in the tree"))?;
        Ok(format!("{name} {version}"))
    };
    Ok(about
        .iter()
        .map(version)
        .collect::<Result<Vec<_>>>()?
        .join(", "))
}

/// A line for each crate a client is built of, besides itself.
fn tree(folder: &str, options: &[&str]) -> Result<BTreeSet<String>> {
    let mut cargo = cargo("tree", folder);
    let output = cargo
        .args(options)
        .args(["--edges", "normal", "--prefix", "none", "--no-dedupe"])
        .output()?;
    if !output.status.success() {
        return Err(format!("{cargo:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .skip(1)
        .map(String::from)
        .collect())
}
