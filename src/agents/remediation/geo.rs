//! The country and the autonomous system of an address, by databases in MaxMind's format: GeoIP, GeoLite
//! and those that others make in that form.
//!
//! Pure: a database comes as bytes, and who reads it from where is no matter here.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader};

use super::dataset::CountryCode;

/// What may have a record's country, in the order it is asked: where the address is used, where it is
/// registered, whom it stands for.
const COUNTRIES: [&str; 3] = ["country", "registered_country", "represented_country"];

/// A database in MaxMind's format, in memory.
///
/// A lookup takes no lock, and allocates nothing unless a record is not of the form it should have.
pub struct GeoDatabase {
    reader: Reader<Vec<u8>>,
}

impl GeoDatabase {
    /// The database that a file of these bytes is.
    ///
    /// # Errors
    ///
    /// They are none, or not all of one: its description is at the end.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let reader = Reader::from_source(bytes).map_err(GeoError)?;
        Ok(Self { reader })
    }

    /// What sort of database it says it is, as in `GeoLite2-City` or `GeoLite2-ASN`.
    #[must_use]
    pub fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn built_unix_s(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// The country of an address: the one it is used in, else the one it is registered in, else the one
    /// it represents. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<CountryCode> {
        let record = self.record(address)?;
        COUNTRIES.iter().find_map(|country| {
            let path = [PathElement::Key(country), PathElement::Key("iso_code")];
            let code = record.decode_path::<&str>(&path).ok()??;
            CountryCode::new(code)
        })
    }

    /// The number of the autonomous system that an address is of.
    #[must_use]
    pub fn as_number(&self, address: IpAddr) -> Option<u32> {
        let path = [PathElement::Key("autonomous_system_number")];
        self.record(address)?.decode_path(&path).ok()?
    }

    fn record(&self, address: IpAddr) -> Option<LookupResult<'_, Vec<u8>>> {
        let address = address.to_canonical();
        // Asked for what it cannot have, the reader would make an error, with a text.
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        let record = self.reader.lookup(address).ok()?;
        record.has_data().then_some(record)
    }
}

impl fmt::Debug for GeoDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoDatabase")
            .field("database_type", &self.database_type())
            .field("built_unix_s", &self.built_unix_s())
            .finish_non_exhaustive()
    }
}

/// Why bytes are no database.
#[derive(Debug)]
pub struct GeoError(MaxMindDbError);

impl fmt::Display for GeoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a whole database in MaxMind's format: {}", self.0)
    }
}

impl std::error::Error for GeoError {}

/// The databases in force. A [`SnapshotCell`](super::SnapshotCell) hands them to the cores.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GeoDatabases {
    /// For countries.
    pub city: Option<Arc<GeoDatabase>>,
    /// For autonomous systems.
    pub asn: Option<Arc<GeoDatabase>>,
}

impl GeoDatabases {
    /// The place of an address, as far as there are databases for it.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        let city = self.city.as_ref();
        let asn = self.asn.as_ref();
        Place {
            country: city.and_then(|database| database.country(address)),
            as_number: asn.and_then(|database| database.as_number(address)),
        }
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Its country.
    pub country: Option<CountryCode>,
    /// The number of its autonomous system.
    pub as_number: Option<u32>,
}
