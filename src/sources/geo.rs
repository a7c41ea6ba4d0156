//! Databases of countries and autonomous systems in files, which are read again when they change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::agents::remediation::{GeoDatabase, GeoDatabases, SnapshotCell};
use crate::background::{Urgency, run_aside, step_back};

use super::bell::Bell;
use super::files::Stamp;
use super::join;

/// Databases in MaxMind's format, by their files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeoConfig {
    /// One that has countries, as GeoLite2-City and GeoLite2-Country do.
    pub city_database: Option<PathBuf>,
    /// One that has autonomous systems, as GeoLite2-ASN does.
    pub asn_database: Option<PathBuf>,
    /// How often it is looked whether they changed; default 60 s. A look costs one system call a file.
    pub poll_every: Duration,
}

impl Default for GeoConfig {
    fn default() -> Self {
        Self {
            city_database: None,
            asn_database: None,
            poll_every: Duration::from_secs(60),
        }
    }
}

impl GeoConfig {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.city_database.is_none() && self.asn_database.is_none()
    }
}

/// Why a database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeoFault {
    /// The setting that names it, `city-database` or `asn-database`.
    pub key: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for GeoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.key, self.path.display(), self.reason)
    }
}

impl std::error::Error for GeoFault {}

/// How a database fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeoStatus {
    /// The setting that names it, `city-database` or `asn-database`.
    pub key: &'static str,
    /// When the one in force was made, in seconds since 1970.
    pub built_unix_s: u64,
    /// Why the file cannot be used as it is now; the one before holds.
    pub fault: Option<GeoFault>,
}

/// The databases, looked after by a thread. Dropped, it is [stopped](Self::stop); what is in force stays.
pub struct GeoFiles {
    cell: Arc<SnapshotCell<GeoDatabases>>,
    status: Arc<Mutex<Vec<GeoStatus>>>,
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl GeoFiles {
    /// Reads the databases, and looks after them from then on.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no such database.
    pub fn start(config: &GeoConfig) -> Result<Self, GeoFault> {
        let keeper = Keeper::new(config)?;
        let this = Self {
            cell: Arc::clone(&keeper.cell),
            status: Arc::clone(&keeper.status),
            bell: Arc::clone(&keeper.bell),
            thread: Mutex::default(),
        };
        let Some(first) = keeper.files.first() else {
            return Ok(this);
        };
        let (key, path) = (first.sort.key(), first.path.clone());
        let thread = std::thread::Builder::new()
            .name("geo".to_owned())
            .spawn(|| keeper.run())
            .map_err(|error| GeoFault {
                key,
                path,
                reason: format!("there is no thread to look after it: {error}"),
            })?;
        *lock(&this.thread) = Some(thread);
        Ok(this)
    }

    /// Whether these databases can be used: reads them.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn check(config: &GeoConfig) -> Result<(), GeoFault> {
        // A server that reloads answers meanwhile.
        run_aside(|| Keeper::new(config).map(drop))
    }

    /// The databases in force, for the readers of cores.
    #[must_use]
    pub const fn databases(&self) -> &Arc<SnapshotCell<GeoDatabases>> {
        &self.cell
    }

    /// Has the files looked at now. Does not wait for that; what comes of it is in the
    /// [`status`](Self::status) and the log.
    pub fn reload(&self) {
        self.bell.ask();
    }

    /// How they fare.
    #[must_use]
    pub fn status(&self) -> Vec<GeoStatus> {
        lock(&self.status).clone()
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.bell.stop();
        join(lock(&self.thread).take());
    }
}

impl Drop for GeoFiles {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for GeoFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoFiles")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the locks of this file is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    City,
    Asn,
}

impl Sort {
    const fn key(self) -> &'static str {
        match self {
            Self::City => "city-database",
            Self::Asn => "asn-database",
        }
    }

    const fn of(self, databases: &mut GeoDatabases) -> &mut Option<Arc<GeoDatabase>> {
        match self {
            Self::City => &mut databases.city,
            Self::Asn => &mut databases.asn,
        }
    }
}

struct GeoFile {
    sort: Sort,
    path: PathBuf,
    /// As it was read last, well or not.
    read: Option<Stamp>,
}

impl GeoFile {
    /// The database, unless the file is as it was when it was read last.
    fn read(&mut self, anyway: bool) -> Result<Option<GeoDatabase>, GeoFault> {
        let result = self.read_changed(anyway);
        result.map_err(|reason| GeoFault {
            key: self.sort.key(),
            path: self.path.clone(),
            reason,
        })
    }

    fn read_changed(&mut self, anyway: bool) -> Result<Option<GeoDatabase>, String> {
        // What cannot be read is tried again at the next look.
        let stamp = stamp(&self.path).inspect_err(|_| self.read = None)?;
        if self.read == Some(stamp) && !anyway {
            return Ok(None);
        }
        self.read = None;
        let bytes = fs::read(&self.path).map_err(|error| error.to_string())?;
        // Whoever writes while it is read may leave parts of two databases.
        if self::stamp(&self.path)? != stamp {
            return Err("it changed while it was read".to_owned());
        }
        self.read = Some(stamp);
        let database = GeoDatabase::from_bytes(bytes).map_err(|error| error.to_string())?;
        self.check_type(database.database_type())?;
        Ok(Some(database))
    }

    /// Such as have the one but not the other are taken for each other easily.
    fn check_type(&self, database_type: &str) -> Result<(), String> {
        let has = |part: &str| database_type.contains(part);
        let wanted = match self.sort {
            Sort::City if has("ASN") => "countries",
            Sort::Asn if has("City") || has("Country") => "autonomous systems",
            _ => return Ok(()),
        };
        Err(format!(
            "a database of {wanted} is wanted, and this is {database_type}"
        ))
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Stamp::of(&metadata)),
        // A pipe would be waited for.
        Ok(_) => Err("not a file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the thread has.
struct Keeper {
    files: Vec<GeoFile>,
    databases: GeoDatabases,
    cell: Arc<SnapshotCell<GeoDatabases>>,
    status: Arc<Mutex<Vec<GeoStatus>>>,
    bell: Arc<Bell>,
    poll_every: Duration,
}

impl Keeper {
    fn new(config: &GeoConfig) -> Result<Self, GeoFault> {
        let mut databases = GeoDatabases::default();
        let mut files = Vec::new();
        let mut status = Vec::new();
        for (sort, path) in [
            (Sort::City, &config.city_database),
            (Sort::Asn, &config.asn_database),
        ] {
            let Some(path) = path else { continue };
            let mut file = GeoFile {
                sort,
                path: path.clone(),
                read: None,
            };
            let database = file.read(true)?.map(Arc::new);
            status.push(GeoStatus {
                key: sort.key(),
                built_unix_s: database.as_ref().map_or(0, |one| one.built_unix_s()),
                fault: None,
            });
            *sort.of(&mut databases) = database;
            files.push(file);
        }
        Ok(Self {
            files,
            cell: SnapshotCell::new(Arc::new(databases.clone())),
            databases,
            status: Arc::new(Mutex::new(status)),
            bell: Arc::default(),
            poll_every: config.poll_every,
        })
    }

    fn run(mut self) {
        // The start has read the databases.
        step_back(Urgency::Low);
        loop {
            let rung = self.bell.wait(self.poll_every);
            if rung.is_stopped {
                return;
            }
            self.look(rung.is_asked);
            // Cores put the one before aside some time after it was replaced.
            self.cell.collect();
        }
    }

    /// Takes what changed. A file that cannot be used leaves the one before in force.
    fn look(&mut self, is_asked: bool) {
        let mut is_changed = false;
        for (index, file) in self.files.iter_mut().enumerate() {
            // One that failed is tried again if somebody asks, as the file may not be what changed.
            let has_failed = lock(&self.status)[index].fault.is_some();
            match file.read(is_asked && has_failed) {
                Ok(None) => {}
                Ok(Some(database)) => {
                    tracing::info!(
                        "{}: {} is read again: {}",
                        file.sort.key(),
                        file.path.display(),
                        database.database_type()
                    );
                    let status = &mut lock(&self.status)[index];
                    status.built_unix_s = database.built_unix_s();
                    status.fault = None;
                    *file.sort.of(&mut self.databases) = Some(Arc::new(database));
                    is_changed = true;
                }
                Err(fault) => {
                    let status = &mut lock(&self.status)[index];
                    if status.fault.as_ref() != Some(&fault) {
                        tracing::error!("{fault}; the one before holds");
                    }
                    status.fault = Some(fault);
                }
            }
        }
        if is_changed {
            self.cell.publish(Arc::new(self.databases.clone()));
        }
    }
}
