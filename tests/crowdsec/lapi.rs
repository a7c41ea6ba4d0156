//! A LAPI of CrowdSec on loopback, as `scripts/install-crowdsec` installs it, in a folder of its own, and
//! what its operator does with it.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before the test fails. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const KEY: &str = "key-of-the-test";

fn installed() -> PathBuf {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(".crowdsec/1.4.6");
    assert!(
        at.join("crowdsec").exists(),
        "{} is missing: run scripts/install-crowdsec",
        at.display()
    );
    at
}

/// The LAPI. Its process ends with it, and its folder goes.
pub(crate) struct Lapi {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
    is_tls: bool,
}

impl Lapi {
    /// One that runs, and knows the bouncer of [`KEY`].
    pub(crate) fn start() -> Self {
        Self::with_server("", &[])
    }

    /// The same, with more of the settings of `api.server`; `@` is the path of its folder, where these
    /// files are.
    pub(crate) fn with_server(settings: &str, files: &[(&str, String)]) -> Self {
        let mut lapi = Self::prepare(settings, files);
        lapi.cscli(&["bouncers", "add", "test", "-k", KEY]);
        lapi.run();
        lapi
    }

    fn prepare(settings: &str, files: &[(&str, String)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringspoa-crowdsec-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        for below in ["data", "notifications", "plugins"] {
            fs::create_dir_all(folder.join(below)).unwrap();
        }
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let share = installed().join("share");
        for file in ["profiles.yaml", "simulation.yaml"] {
            fs::copy(share.join(file), folder.join(file)).unwrap();
        }
        fs::write(folder.join("console.yaml"), "{}\n").unwrap();
        // Of the two in a moment there is none that has it.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let lapi = Self {
            folder,
            port,
            process: None,
            is_tls: settings.contains("tls:"),
        };
        let at = lapi.folder.display();
        let hub = share.join("hub");
        let hub = hub.display();
        // Without the API of CrowdSec itself: nothing leaves the machine.
        let config = format!(
            "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: .}}\n\
             config_paths:\n  config_dir: {at}\n  data_dir: {at}/data\n\
             \x20 simulation_path: {at}/simulation.yaml\n  hub_dir: {hub}\n\
             \x20 index_path: {hub}/.index.json\n  notification_dir: {at}/notifications\n\
             \x20 plugin_dir: {at}/plugins\n\
             cscli: {{output: human, color: \"no\"}}\n\
             db_config: {{log_level: info, type: sqlite, db_path: {at}/data/crowdsec.db, use_wal: true}}\n\
             api:\n  client: {{credentials_path: {at}/credentials.yaml, insecure_skip_verify: true}}\n\
             \x20 server:\n    log_level: info\n    listen_uri: 127.0.0.1:{port}\n\
             \x20   profiles_path: {at}/profiles.yaml\n    console_path: {at}/console.yaml\n\
             \x20   trusted_ips: [127.0.0.1]\n{settings}\
             prometheus: {{enabled: false}}\n"
        );
        fs::write(
            lapi.folder.join("config.yaml"),
            config.replace("@", &at.to_string()),
        )
        .unwrap();
        let credentials = lapi.folder.join("credentials.yaml");
        let credentials = credentials.to_str().unwrap();
        lapi.cscli(&[
            "machines",
            "add",
            "test",
            "--password",
            "test",
            "-f",
            credentials,
            "-u",
            &lapi.url(),
        ]);
        lapi
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the process, and waits until it answers.
    pub(crate) fn run(&mut self) {
        let mut log = fs::OpenOptions::new();
        let log = log
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        let child = Command::new(installed().join("crowdsec"))
            .arg("-c")
            .arg(self.folder.join("config.yaml"))
            .arg("-no-cs")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let until = Instant::now() + PATIENCE;
        while !self.is_up() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the LAPI ended: {}", log());
            assert!(
                Instant::now() < until,
                "the LAPI does not answer: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_up(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        if self.is_tls {
            return true;
        }
        let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        socket.write_all(request.as_bytes()).is_ok()
            && socket.read_to_string(&mut answer).is_ok()
            && answer.contains("200 OK")
    }

    fn pid(&self) -> Pid {
        let id = self.process.as_ref().unwrap().id();
        Pid::from_raw(i32::try_from(id).unwrap())
    }

    /// Ends the process as by the power switch.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// It takes connections, and does nothing.
    pub(crate) fn hang(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
    }

    pub(crate) fn go_on(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    pub(crate) fn cscli(&self, arguments: &[&str]) -> String {
        for tries in 0.. {
            let output = Command::new(installed().join("cscli"))
                .arg("-c")
                .arg(self.folder.join("config.yaml"))
                .args(arguments)
                .current_dir(&self.folder)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                return said + &errors;
            }
            // Its database waits for a slow disk no longer than a moment, and nothing was done then.
            assert!(
                errors.contains("database is locked") && tries < 5,
                "cscli {arguments:?}: {said}{errors}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        unreachable!("it returns or fails")
    }

    pub(crate) fn add(&self, address: &str, duration: &str) {
        self.cscli(&[
            "decisions",
            "add",
            "--ip",
            address,
            "-d",
            duration,
            "-t",
            "ban",
        ]);
    }

    pub(crate) fn delete(&self, address: &str) {
        self.cscli(&["decisions", "delete", "--ip", address]);
    }

    /// Imports bans on addresses.
    pub(crate) fn import(&self, addresses: impl Iterator<Item = Ipv4Addr>) {
        let file = self.folder.join("import.json");
        // Piece by piece, as a test measures its own memory after that.
        let mut out = BufWriter::new(fs::File::create(&file).unwrap());
        for (index, address) in addresses.enumerate() {
            let before = if index == 0 { '[' } else { ',' };
            write!(
                out,
                "{before}{{\"duration\":\"4h\",\"scope\":\"ip\",\"value\":\"{address}\",\
                 \"type\":\"ban\",\"reason\":\"imported\"}}"
            )
            .unwrap();
        }
        out.write_all(b"]").unwrap();
        drop(out);
        self.cscli(&["decisions", "import", "-i", file.to_str().unwrap()]);
    }
}

impl Drop for Lapi {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Also one that hangs.
            let _ = process.kill();
            let _ = process.wait();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
