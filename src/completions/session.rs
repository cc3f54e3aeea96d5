//! One session: a floor, and above it the outcomes of what was executed, frame by frame.
#![forbid(unsafe_code)]

use super::account::Account;
use super::carrier::Identity;
use super::record::Draft;
use super::records::Records;

/// What a record is accounted with beside its bytes and its place: what the allocator takes.
const RECORD_BYTES: u64 = 32;

/// The most that is kept for one of the next records, and for how many: as many batches are in flight.
const SPARE_BYTES_MAX: usize = 64 << 10;
const SPARES: usize = 4;

/// Most records of a session: each is found among the others for every frame that is sent again.
const RECORDS_MAX: usize = 1 << 16;

/// Why a node may not know all that was executed of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The session was left then at the latest.
    lost_up_to: u64,
    /// It was lost by another node alone, which only frames reach that were sent before.
    elsewhere: bool,
    /// The first frame in doubt that did not say that it was sent before.
    met: Option<u64>,
    /// The lowest frame that was never here before: what was sent first behind it was not either.
    new_from: Option<u64>,
}

impl Doubt {
    pub(super) fn new(lost_up_to: u64, elsewhere: bool) -> Option<Self> {
        (lost_up_to > 0).then_some(Self { lost_up_to, elsewhere, met: None, new_from: None })
    }

    /// Both.
    pub(super) fn merged(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
        Self::new(one.lost_up_to.max(other.lost_up_to), one.elsewhere && other.elsewhere)
    }
}

/// What a node knows of a session.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What has a lower sequence and is not recorded was acknowledged or forgotten: it is not executed any more.
    floor: u64,
    doubt: Option<Doubt>,
    records: Records,
    /// The memory of acknowledged records, for the next; none of a client that left.
    spares: Vec<Vec<u8>>,
    bytes: u64,
    /// The sequence that is being executed, and stays here where that panics.
    executing: Option<u64>,
}

/// What is known of a sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not executed.
    Nothing,
    /// The outcomes of what was executed.
    Outcomes(Vec<u8>),
    /// It may have been executed.
    Gone,
}

impl Session {
    pub(super) fn new(floor: u64, doubt: Option<Doubt>) -> Self {
        Self { floor, doubt, ..Self::default() }
    }

    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Whether more may have been executed of a sequence than is recorded.
    pub(super) fn is_in_doubt(&self, sequence: u64) -> bool {
        self.doubt.is_some_and(|doubt| doubt.new_from.is_none_or(|new| sequence < new))
    }

    /// More may have been executed of it than is known.
    pub(super) fn put_in_doubt(&mut self, doubt: Option<Doubt>) {
        self.doubt = Doubt::merged(self.doubt, doubt);
    }

    /// A frame comes, on a connection that began then. Where something was lost, nothing is executed that may have
    /// been: one that says that it was sent before, or that may be on its way since before the session was left.
    pub(super) fn meet(&mut self, identity: Identity, began_at: u64) {
        let Some(doubt) = &mut self.doubt else { return };
        let Identity { sequence, acknowledged_up_to, is_retry, .. } = identity;
        if !is_retry {
            // Others may be on their way with the first: not what was sent when that had been answered.
            let met = *doubt.met.get_or_insert(sequence);
            if doubt.lost_up_to <= began_at || acknowledged_up_to > met {
                // Two of them may come in either order.
                doubt.new_from = Some(doubt.new_from.map_or(sequence, |new| new.min(sequence)));
                return;
            }
        }
        let is_exempt = doubt.elsewhere && !is_retry && doubt.new_from.is_none();
        if self.is_in_doubt(sequence) && !is_exempt {
            self.raise_floor(sequence.saturating_add(1));
        }
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Bytes accounted for its records and their places, and for the memory of the next.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The record that comes next behind a sequence, or first.
    pub(super) fn record_behind(&self, sequence: Option<u64>) -> Option<(u64, &[u8])> {
        self.records.behind(sequence)
    }

    /// What executing left half done is not known.
    pub(super) fn recover(&mut self) {
        if let Some(sequence) = self.executing.take() {
            self.raise_floor(sequence.saturating_add(1));
        }
    }

    /// The replies below `sequence` have arrived: their outcomes go.
    pub(super) fn acknowledge(&mut self, sequence: u64, account: &Account) {
        while let Some(record) = self.records.pop_below(sequence) {
            self.give_back(record, account);
        }
        self.raise_floor(sequence);
    }

    /// A record to be made.
    pub(super) fn draft<'a>(&mut self, account: &'a Account) -> Draft<'a> {
        let spare = self.spares.pop().unwrap_or_default();
        self.bytes -= spare.capacity() as u64;
        Draft::on(account, spare)
    }

    fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| spare.capacity() as u64).sum()
    }

    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        // Nothing is left that was in doubt.
        self.doubt.take_if(|doubt| doubt.new_from.is_some_and(|new| new <= self.floor));
    }

    /// Takes out what is known of a sequence, which is then to be executed, and [`Session::keep`] given what became of
    /// it.
    pub(super) fn take(&mut self, sequence: u64, account: &Account) -> Known {
        if let Some(record) = self.records.remove(sequence) {
            self.bytes -= RECORD_BYTES + record.capacity() as u64;
            account.give_back(RECORD_BYTES);
            self.executing = Some(sequence);
            return Known::Outcomes(record);
        }
        if sequence < self.floor {
            return Known::Gone;
        }
        self.executing = Some(sequence);
        Known::Nothing
    }

    /// Keeps what became of a sequence; where that is lost, it may have been executed from here on.
    pub(super) fn keep(&mut self, sequence: u64, draft: Draft<'_>, account: &Account) {
        self.executing = None;
        match draft.finish() {
            Some(record) if record.is_empty() => {
                self.bytes += record.capacity() as u64;
                self.put_by(record, account);
            }
            Some(record) if account.take(RECORD_BYTES + self.records.growth_bytes()) => {
                self.bytes += RECORD_BYTES + self.records.growth_bytes() + record.capacity() as u64;
                self.records.insert(sequence, record);
                if self.records.len() > RECORDS_MAX {
                    self.forget_first(account);
                }
            }
            Some(record) => {
                account.give_back(record.capacity() as u64);
                self.raise_floor(sequence.saturating_add(1));
            }
            None => self.raise_floor(sequence.saturating_add(1)),
        }
    }

    /// Forgets the oldest records until no more than so many bytes are left, their places, and the memory for the next.
    pub(super) fn forget(&mut self, bytes_left: u64, account: &Account) {
        while self.bytes - self.spare_bytes() - self.records.empty_bytes() > bytes_left {
            if !self.forget_first(account) {
                break;
            }
        }
        let places = self.records.place_bytes();
        self.records.shrink();
        let given_back = places - self.records.place_bytes();
        self.bytes -= given_back;
        account.give_back(given_back);
        self.drop_spares(account);
    }

    /// Forgets the oldest record; false where there is none.
    fn forget_first(&mut self, account: &Account) -> bool {
        let Some((sequence, record)) = self.records.pop_first() else { return false };
        self.give_back(record, account);
        self.raise_floor(sequence.saturating_add(1));
        true
    }

    /// Gives back the memory for the next records.
    pub(super) fn drop_spares(&mut self, account: &Account) {
        for spare in std::mem::take(&mut self.spares) {
            self.bytes -= spare.capacity() as u64;
            account.give_back(spare.capacity() as u64);
        }
    }

    /// Gives a record back, or keeps its memory for the next.
    fn give_back(&mut self, record: Vec<u8>, account: &Account) {
        self.bytes -= RECORD_BYTES;
        account.give_back(RECORD_BYTES);
        self.put_by(record, account);
    }

    fn put_by(&mut self, mut record: Vec<u8>, account: &Account) {
        if (1..=SPARE_BYTES_MAX).contains(&record.capacity()) {
            record.clear();
            if self.spares.len() < SPARES {
                self.spares.push(record);
                return;
            }
            let least = self.spares.iter_mut().min_by_key(|spare| spare.capacity());
            if let Some(least) = least.filter(|least| least.capacity() < record.capacity()) {
                std::mem::swap(least, &mut record);
            }
        }
        self.bytes -= record.capacity() as u64;
        account.give_back(record.capacity() as u64);
    }
}
