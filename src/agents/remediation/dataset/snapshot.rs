//! What is looked up: all decisions as of one moment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::addresses::{Addresses, Key, Scramble};
use super::column::{Column, Row};
use super::decision::{CountryCode, Expiry, Remediation, Subject};
use super::kinds::{Kind, KindId, Kinds, SourceId};
use super::network::Network;
use super::ranges::{Bits, Prefix, Ranges, Segments, SegmentsV4, SegmentsV6};
use super::wide::Wide;

pub(super) type RangesV4 = Ranges<u32, SegmentsV4>;
pub(super) type RangesV6 = Ranges<Wide, SegmentsV6>;

/// All decisions that were active when it was made, for looking addresses up: without a lock, without
/// an allocation, from any number of threads.
///
/// What of it did not change between two snapshots is shared by them.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) scramble: Scramble,
    pub(super) kinds: Arc<Kinds>,
    pub(super) addresses_v4: Arc<Addresses<u32>>,
    pub(super) addresses_v6: Arc<Addresses<Wide>>,
    pub(super) ranges_v4: Arc<RangesV4>,
    pub(super) ranges_v6: Arc<RangesV6>,
    pub(super) countries: Arc<Column<CountryCode>>,
    pub(super) as_numbers: Arc<Column<u32>>,
}

impl Snapshot {
    /// Without a decision.
    pub(super) fn new(scramble: Scramble) -> Self {
        let kinds = Arc::new(Kinds::default());
        Self {
            scramble,
            addresses_v4: Arc::default(),
            addresses_v6: Arc::default(),
            ranges_v4: Arc::new(Ranges::new(Column::default(), &kinds)),
            ranges_v6: Arc::new(Ranges::new(Column::default(), &kinds)),
            countries: Arc::default(),
            as_numbers: Arc::default(),
            kinds,
        }
    }

    /// The decision that holds for this address, by what is known of the address alone.
    ///
    /// Decisions on the address itself come first, and the hardest of them holds, even if it is
    /// [`Unknown`](Remediation::Unknown); then those on the most specific range. Against that order
    /// goes only the priority of sources, and an allow list goes before everything. An IPv4-mapped
    /// IPv6 address counts as IPv4.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Found<'_>> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.find(
                (&self.addresses_v4, Table::AddressV4),
                (&self.ranges_v4, Table::RangeV4),
                address.to_bits(),
            ),
            IpAddr::V6(address) => self.find(
                (&self.addresses_v6, Table::AddressV6),
                (&self.ranges_v6, Table::RangeV6),
                Wide::new(address.to_bits()),
            ),
        }
    }

    #[inline]
    fn find<B: Bits + Key, S: Segments<B>>(
        &self,
        (addresses, address_table): (&Addresses<B>, Table),
        (ranges, range_table): (&Ranges<B, S>, Table),
        bits: B,
    ) -> Option<Found<'_>> {
        let range = || {
            let row = ranges.find(bits)?;
            Some(self.found(range_table, row, ranges.column.kind(row)))
        };
        let Some(row) = addresses.find(bits.scrambled(&self.scramble)) else {
            return range();
        };
        let exact = self.found(address_table, row, addresses.column.kind(row));
        if exact.of_kind().priority >= ranges.highest_priority {
            return Some(exact);
        }
        match range() {
            Some(range) if range.of_kind().priority > exact.of_kind().priority => Some(range),
            _ => Some(exact),
        }
    }

    /// As [`lookup`](Self::lookup), and by country and autonomous system where the caller knows them.
    ///
    /// One on the country counts if what was found before lets the client pass: nothing, or an `allow`.
    /// One on the autonomous system counts if neither does more. Words that mean nothing, and so let
    /// pass too, do not count for either.
    #[inline]
    #[must_use]
    pub fn lookup_with(
        &self,
        address: IpAddr,
        country: Option<CountryCode>,
        as_number: Option<u32>,
    ) -> Option<Found<'_>> {
        let mut best = self.lookup(address);
        if let Some(country) = country
            && let Some(row) = self.countries.find(country)
        {
            let found = self.found(Table::Country, row, self.countries.kind(row));
            best = found.unless_outdone_by(best);
        }
        if let Some(as_number) = as_number
            && let Some(row) = self.as_numbers.find(as_number)
        {
            let found = self.found(Table::AsNumber, row, self.as_numbers.kind(row));
            best = found.unless_outdone_by(best);
        }
        best
    }

    /// Every decision that an address, its country and its autonomous system have, in the order in which
    /// a lookup asks for them where all sources have one priority. For people: it takes a while.
    #[must_use]
    pub fn decisions_on(
        &self,
        address: IpAddr,
        country: Option<CountryCode>,
        as_number: Option<u32>,
    ) -> Vec<Found<'_>> {
        let mut all = match address.to_canonical() {
            IpAddr::V4(address) => self.decisions_on_bits(
                (&self.addresses_v4, Table::AddressV4),
                (&self.ranges_v4, Table::RangeV4),
                address.to_bits(),
            ),
            IpAddr::V6(address) => self.decisions_on_bits(
                (&self.addresses_v6, Table::AddressV6),
                (&self.ranges_v6, Table::RangeV6),
                Wide::new(address.to_bits()),
            ),
        };
        if let Some(country) = country {
            let rows = self.countries.rows_of(country);
            all.extend(rows.map(|row| self.found(Table::Country, row, self.countries.kind(row))));
        }
        if let Some(as_number) = as_number {
            let rows = self.as_numbers.rows_of(as_number);
            all.extend(rows.map(|row| self.found(Table::AsNumber, row, self.as_numbers.kind(row))));
        }
        all
    }

    fn decisions_on_bits<B: Bits + Key, S: Segments<B>>(
        &self,
        (addresses, address_table): (&Addresses<B>, Table),
        (ranges, range_table): (&Ranges<B, S>, Table),
        bits: B,
    ) -> Vec<Found<'_>> {
        let rows = addresses.column.rows_of(bits.scrambled(&self.scramble));
        let exact = rows.map(|row| self.found(address_table, row, addresses.column.kind(row)));
        let around = ranges.around(bits);
        let around = around.map(|row| self.found(range_table, row, ranges.column.kind(row)));
        exact.chain(around).collect()
    }

    #[inline]
    fn found(&self, table: Table, row: usize, kind: u16) -> Found<'_> {
        Found {
            snapshot: self,
            // A column has fewer than 2^32 rows, as its index was made of such numbers.
            row: u32::try_from(row).unwrap_or(u32::MAX),
            kind,
            table,
        }
    }

    /// All decisions, in no order of use.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        Table::ALL.into_iter().flat_map(move |table| {
            let rows = 0..self.row_count(table);
            rows.map(move |row| self.found(table, row, self.kind_of(table, row)))
        })
    }

    /// How many decisions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        Table::ALL
            .map(|table| self.row_count(table))
            .into_iter()
            .sum()
    }

    /// The kinds of decisions there have been, by their numbers: from 0 on, without a gap. One that has
    /// no decision any more is among them.
    pub fn kinds(&self) -> impl ExactSizeIterator<Item = DecisionKind<'_>> {
        (0..self.kinds.count()).map(|index| {
            let id = u16::try_from(index).expect("the store has at most 65536 kinds");
            let kind = self.kinds.kind(id);
            DecisionKind {
                id: KindId(id),
                source: kind.source,
                origin: self.kinds.origin(id),
                word: self.kinds.word(id),
                remediation: kind.remediation,
            }
        })
    }

    /// How many decisions there are of each kind and scope that has any, for those who show them. It goes
    /// through all of them: some milliseconds for a million.
    #[must_use]
    pub fn counts(&self) -> Vec<DecisionCount> {
        let mut counts = Vec::new();
        let mut of_kind = vec![0; self.kinds.count()];
        for table in Table::ALL {
            for row in 0..self.row_count(table) {
                of_kind[usize::from(self.kind_of(table, row))] += 1;
            }
            for (kind, count) in (0..).zip(&mut of_kind) {
                if *count > 0 {
                    counts.push(DecisionCount {
                        kind: KindId(kind),
                        scope: table.scope(),
                        is_ipv6: table.is_ipv6(),
                        count: std::mem::take(count),
                    });
                }
            }
        }
        counts
    }

    /// What it takes in memory, in bytes, what it shares with other snapshots included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        size_of::<Self>()
            + self.kinds.byte_len()
            + self.addresses_v4.byte_len()
            + self.addresses_v6.byte_len()
            + self.ranges_v4.byte_len()
            + self.ranges_v6.byte_len()
            + self.countries.byte_len()
            + self.as_numbers.byte_len()
    }

    fn row_count(&self, table: Table) -> usize {
        match table {
            Table::AddressV4 => self.addresses_v4.column.len(),
            Table::AddressV6 => self.addresses_v6.column.len(),
            Table::RangeV4 => self.ranges_v4.column.len(),
            Table::RangeV6 => self.ranges_v6.column.len(),
            Table::Country => self.countries.len(),
            Table::AsNumber => self.as_numbers.len(),
        }
    }

    fn kind_of(&self, table: Table, row: usize) -> u16 {
        match table {
            Table::AddressV4 => self.addresses_v4.column.kind(row),
            Table::AddressV6 => self.addresses_v6.column.kind(row),
            Table::RangeV4 => self.ranges_v4.column.kind(row),
            Table::RangeV6 => self.ranges_v6.column.kind(row),
            Table::Country => self.countries.kind(row),
            Table::AsNumber => self.as_numbers.kind(row),
        }
    }

    fn row(&self, table: Table, row: usize) -> Row {
        match table {
            Table::AddressV4 => self.addresses_v4.column.row(row),
            Table::AddressV6 => self.addresses_v6.column.row(row),
            Table::RangeV4 => self.ranges_v4.column.row(row),
            Table::RangeV6 => self.ranges_v6.column.row(row),
            Table::Country => self.countries.row(row),
            Table::AsNumber => self.as_numbers.row(row),
        }
    }

    fn subject(&self, table: Table, row: usize) -> Subject {
        let network = match table {
            Table::AddressV4 => {
                let key = self.addresses_v4.column.key(row);
                Ipv4Addr::from_bits(key.unscrambled(&self.scramble)).into()
            }
            Table::AddressV6 => {
                let key = self.addresses_v6.column.key(row);
                Ipv6Addr::from_bits(key.unscrambled(&self.scramble).bits()).into()
            }
            Table::RangeV4 => {
                let Prefix { first, len } = self.ranges_v4.column.key(row);
                return network(Ipv4Addr::from_bits(first).into(), len);
            }
            Table::RangeV6 => {
                let Prefix { first, len } = self.ranges_v6.column.key(row);
                return network(Ipv6Addr::from_bits(first.bits()).into(), len);
            }
            Table::Country => return Subject::Country(self.countries.key(row)),
            Table::AsNumber => return Subject::AsNumber(self.as_numbers.key(row)),
        };
        Subject::Network(IpAddr::into(network))
    }
}

fn network(first: IpAddr, prefix_len: u8) -> Subject {
    let network = Network::new(first, prefix_len);
    Subject::Network(network.expect("the store keeps networks as they are"))
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("count", &self.count())
            .field("byte_len", &self.byte_len())
            .finish_non_exhaustive()
    }
}

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    AddressV4,
    AddressV6,
    RangeV4,
    RangeV6,
    Country,
    AsNumber,
}

impl Table {
    const ALL: [Self; 6] = [
        Self::AddressV4,
        Self::AddressV6,
        Self::RangeV4,
        Self::RangeV6,
        Self::Country,
        Self::AsNumber,
    ];
}

impl Table {
    /// The scope of its decisions, as CrowdSec writes it.
    const fn scope(self) -> &'static str {
        match self {
            Self::AddressV4 | Self::AddressV6 => "Ip",
            Self::RangeV4 | Self::RangeV6 => "Range",
            Self::Country => "Country",
            Self::AsNumber => "AS",
        }
    }

    /// Whether they are on addresses of IPv6, where they are on addresses.
    const fn is_ipv6(self) -> Option<bool> {
        match self {
            Self::AddressV4 | Self::RangeV4 => Some(false),
            Self::AddressV6 | Self::RangeV6 => Some(true),
            Self::Country | Self::AsNumber => None,
        }
    }
}

/// What the decisions of one kind have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecisionKind<'a> {
    /// Its number.
    pub id: KindId,
    /// The source they are of.
    pub source: SourceId,
    /// Who decided.
    pub origin: &'a str,
    /// The word the source has for what is to be done.
    pub word: &'a str,
    /// What is to be done.
    pub remediation: Remediation,
}

/// How many decisions there are of one kind and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecisionCount {
    /// Their kind.
    pub kind: KindId,
    /// Their scope, as [`Subject::scope`] has it.
    pub scope: &'static str,
    /// Whether they are on addresses of IPv6; `None` for those that are not on addresses.
    pub is_ipv6: Option<bool>,
    /// How many there are.
    pub count: usize,
}

/// A decision in a snapshot.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    snapshot: &'a Snapshot,
    row: u32,
    kind: u16,
    table: Table,
}

impl<'a> Found<'a> {
    #[inline]
    fn of_kind(&self) -> &'a Kind {
        self.snapshot.kinds.kind(self.kind)
    }

    /// What is to be done.
    #[inline]
    #[must_use]
    pub fn remediation(&self) -> Remediation {
        self.of_kind().remediation
    }

    /// Its kind: the same source, origin and word have the same number in all snapshots of a store.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> KindId {
        KindId(self.kind)
    }

    /// The word its source had for what is to be done.
    #[inline]
    #[must_use]
    pub fn word(&self) -> &'a str {
        self.snapshot.kinds.word(self.kind)
    }

    /// Who decided.
    #[inline]
    #[must_use]
    pub fn origin(&self) -> &'a str {
        self.snapshot.kinds.origin(self.kind)
    }

    /// The source it came from.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.of_kind().source
    }

    /// Whom the decision is about: the address, or the network around it, its country or autonomous
    /// system.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.snapshot.subject(self.table, self.row as usize)
    }

    /// Until when.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        self.row().expiry
    }

    /// The number its source knows it by.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        self.row().id()
    }

    fn row(&self) -> Row {
        self.snapshot.row(self.table, self.row as usize)
    }

    /// It, if it counts beside what was found by a closer look at the client, else that.
    fn unless_outdone_by(self, closer: Option<Self>) -> Option<Self> {
        let own = self.of_kind();
        let counts = closer.is_none_or(|closer| {
            let closer = closer.of_kind();
            own.priority > closer.priority
                || own.priority == closer.priority && closer.remediation == Remediation::Allow
        });
        if counts && own.remediation != Remediation::Unknown {
            Some(self)
        } else {
            closer
        }
    }
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("subject", &self.subject())
            .field("word", &self.word())
            .field("origin", &self.origin())
            .field("expiry", &self.expiry())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
