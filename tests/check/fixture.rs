//! The configurations that mistakes are put into, and the real HAProxy's opinion of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ringspoa::agents::remediation::{AddressTable, RemediationAgent, messages};
use ringspoa::haproxy_config::CheckOptions;
use ringspoa::{
    Agent as _, AgentDeclaration, ArgumentDeclaration, MessageDeclaration, OtherMessages,
    ValueTypes, Var,
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The versions that are installed for tests.
pub(crate) const INSTALLED: [&str; 4] = ["2.6", "2.8", "3.0", "3.2"];

/// What HAProxy says of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepts,
    Warns,
    Refuses,
}

/// A folder for one test, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringspoa-check-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks HAProxy of this version about a file in a folder; what it says comes with it.
pub(crate) fn haproxy(version: &str, folder: &Path, file: &str) -> (Verdict, String) {
    let path = root().join(format!(".haproxy/{version}/haproxy"));
    assert!(
        path.exists(),
        "{} is missing: run scripts/install-haproxy",
        path.display()
    );
    let output = Command::new(path)
        .args(["-c", "-f", file])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    let verdict = match (output.status.success(), text.contains("[WARNING]")) {
        (false, _) => Verdict::Refuses,
        (true, true) => Verdict::Warns,
        (true, false) => Verdict::Accepts,
    };
    (verdict, text)
}

/// The samples for a version, beside each other.
pub(crate) fn samples(version: &str) -> (String, String) {
    let folder = match version {
        "2.6" | "2.8" | "3.0" => "haproxy-2.6",
        _ => "haproxy-3.1",
    };
    let folder = root().join("dist").join(folder);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let main = read("haproxy.cfg").replace("/etc/haproxy/ringspoa.spoe.cfg", "spoe.cfg");
    (main, read("spoe.cfg"))
}

/// Whom the configurations are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The agent in the binary, as without `--agent`.
    Ours,
    /// The agent in the binary with the messages of CrowdSec's bouncer.
    Crowdsec,
    /// Wants an IPv4 address and text, and refuses all else.
    Strict,
    /// Wants an address, and passes over all else.
    Lenient,
    /// Sets a variable of the process.
    OfProcess,
    /// Sets a variable of the response.
    OfResponse,
    /// Sets one whose name is nearly too long.
    OfLongName,
}

const IP: ArgumentDeclaration =
    ArgumentDeclaration::new("ip", ValueTypes::ADDRESS, "an IP address");

impl Whom {
    fn declaration(self) -> AgentDeclaration {
        const LENIENT: MessageDeclaration = MessageDeclaration::new("check-client-ip", &[IP]);
        const STRICT: MessageDeclaration = MessageDeclaration::new(
            "check-client-ip",
            &[
                ArgumentDeclaration::new("ip", ValueTypes::IPV4, "an IPv4 address"),
                ArgumentDeclaration::new("ua", ValueTypes::STRING, "text")
                    .with_sample("req.fhdr(user-agent)"),
            ],
        )
        .denying_unknown_arguments();
        const REMEDIATION: Var<str> = Var::txn("remediation");
        let agent = AgentDeclaration::new("ringspoa").with_variable(REMEDIATION);
        let with = |mut agent: AgentDeclaration, message| {
            agent.messages.push(message);
            agent
        };
        match self {
            Self::Ours => RemediationAgent::new(AddressTable::default()).declaration(),
            Self::Crowdsec => messages::declaration(),
            Self::Strict => with(agent, STRICT).with_other_messages(OtherMessages::Refused),
            Self::Lenient => with(agent, LENIENT),
            Self::OfProcess => with(agent, LENIENT).with_variable(Var::<i64>::proc("total")),
            Self::OfResponse => with(agent, LENIENT).with_variable(Var::<i64>::res("seen")),
            Self::OfLongName => with(agent, LENIENT).with_variable(Var::<str>::txn(
                "the_reason_for_which_the_client_was_banned_in_words",
            )),
        }
    }

    /// As the binary has them without a configuration of its own.
    pub(crate) fn options(self) -> CheckOptions {
        CheckOptions::default()
            .with_agents([self.declaration()])
            .with_max_frame_size(65_532)
    }
}
