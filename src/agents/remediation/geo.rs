//! The country and the autonomous system of an address, by databases in MaxMind's format: GeoIP, GeoLite
//! and those that others make in that form.
//!
//! Pure: a database comes as bytes, and who reads it from where is no matter here.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, PathElement};

use super::dataset::CountryCode;
use super::places::{Answer, FileReader, Places};

/// What may have a record's country, in the order it is asked: where the address is used, where it is
/// registered, whom it stands for.
const COUNTRIES: [&str; 3] = ["country", "registered_country", "represented_country"];

/// A database in MaxMind's format, in memory: what of it is asked, that is, which of GeoLite2-City is 10
/// MB, where the file has 66.
///
/// A lookup takes no lock, and allocates nothing unless a record is not of the form it should have.
pub struct GeoDatabase {
    database_type: String,
    built_unix_s: u64,
    places: Places,
    /// Where the places are not all that has to be known.
    reader: Option<FileReader>,
}

impl GeoDatabase {
    /// The database that a file of these bytes is. It is gone through once: a second for one of cities.
    ///
    /// # Errors
    ///
    /// They are none, or not all of one: its description is at the end.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let reader = FileReader::from_bytes(bytes).map_err(GeoError)?;
        let (places, is_asked) = Places::new(&reader);
        let metadata = reader.metadata();
        Ok(Self {
            database_type: metadata.database_type.clone(),
            built_unix_s: metadata.build_epoch,
            places,
            reader: is_asked.then_some(reader),
        })
    }

    /// What sort of database it says it is, as in `GeoLite2-City` or `GeoLite2-ASN`.
    #[must_use]
    pub fn database_type(&self) -> &str {
        &self.database_type
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn built_unix_s(&self) -> u64 {
        self.built_unix_s
    }

    /// The country of an address: the one it is used in, else the one it is registered in, else the one
    /// it represents. An IPv4-mapped IPv6 address counts as IPv4.
    #[inline]
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<CountryCode> {
        self.place(address).country
    }

    /// The number of the autonomous system that an address is of.
    #[inline]
    #[must_use]
    pub fn as_number(&self, address: IpAddr) -> Option<u32> {
        self.place(address).as_number
    }

    #[inline]
    fn place(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        match (self.places.find(address), &self.reader) {
            (Answer::Known(place), _) => place,
            (Answer::Ask, Some(reader)) => reader.place(address),
            (Answer::Ask, None) => Place::default(),
        }
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let file = self.reader.as_ref().map_or(0, FileReader::byte_len);
        size_of::<Self>() + self.database_type.capacity() + self.places.byte_len() + file
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Place {
    /// Its country.
    pub country: Option<CountryCode>,
    /// The number of its autonomous system.
    pub as_number: Option<u32>,
}

impl Place {
    /// What a record says.
    pub(super) fn of<S: AsRef<[u8]>>(record: &LookupResult<'_, S>) -> Self {
        let country = COUNTRIES.iter().find_map(|country| {
            let path = [PathElement::Key(country), PathElement::Key("iso_code")];
            let code = record.decode_path::<&str>(&path).ok()??;
            CountryCode::new(code)
        });
        let path = [PathElement::Key("autonomous_system_number")];
        let as_number = record.decode_path(&path);
        Self {
            country,
            as_number: as_number.unwrap_or_default(),
        }
    }
}
