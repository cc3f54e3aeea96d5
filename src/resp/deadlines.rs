//! Deadlines and conditions, as SET, GETEX and the EXPIRE family take them.
#![forbid(unsafe_code)]

use super::data::Words;
use super::names::Name;
use super::problem::Problem;
use crate::op::{Condition, Expiry, Time};

/// How a word tells a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// Whether it counts seconds, not milliseconds.
    pub(super) seconds: bool,
    /// Whether it names an instant, not a time from now.
    pub(super) instant: bool,
}

/// What the words behind key and value of SET, or behind the key of GETEX, ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) condition: Condition,
    pub(super) expiry: Expiry,
    /// Whether SET shall give the value that was there.
    pub(super) value_wanted: bool,
}

/// The options of SET.
pub(super) fn set_options(words: Words<'_>, now: Time) -> Result<Options, Problem> {
    let mut options = Options { condition: Condition::Always, expiry: Expiry::Clear, value_wanted: false };
    let (mut time, mut is_kept, mut at) = (None, false, 3);
    while at < words.len() {
        let has_more = at + 1 < words.len();
        if words.is(at, "nx") && options.condition != Condition::IfPresent {
            options.condition = Condition::IfAbsent;
        } else if words.is(at, "xx") && options.condition != Condition::IfAbsent {
            options.condition = Condition::IfPresent;
        } else if words.is(at, "get") {
            options.value_wanted = true;
        } else if words.is(at, "keepttl") && time.is_none() {
            is_kept = true;
        } else if let Some(unit) = unit(words, at, time).filter(|_| has_more && !is_kept) {
            time = Some((unit, at + 1));
            at += 1;
        } else {
            return Err(Problem::Syntax);
        }
        at += 1;
    }
    if let Some((unit, at)) = time {
        options.expiry = from_now_on(Name::Set, words, at, unit, now)?;
    } else if is_kept {
        options.expiry = Expiry::Keep;
    }
    Ok(options)
}

/// What GETEX does to the deadline.
pub(super) fn getex_expiry(words: Words<'_>, now: Time) -> Result<Expiry, Problem> {
    let (mut time, mut is_cleared, mut at) = (None, false, 2);
    while at < words.len() {
        let has_more = at + 1 < words.len();
        if words.is(at, "persist") && time.is_none() {
            is_cleared = true;
        } else if let Some(unit) = unit(words, at, time).filter(|_| has_more && !is_cleared) {
            time = Some((unit, at + 1));
            at += 1;
        } else {
            return Err(Problem::Syntax);
        }
        at += 1;
    }
    match time {
        Some((unit, at)) => from_now_on(Name::Getex, words, at, unit, now),
        None if is_cleared => Ok(Expiry::Clear),
        None => Ok(Expiry::Keep),
    }
}

/// The unit that a word names; none where another one was named before.
fn unit(words: Words<'_>, at: usize, before: Option<(Unit, usize)>) -> Option<Unit> {
    let unit = match () {
        () if words.is(at, "ex") => Unit { seconds: true, instant: false },
        () if words.is(at, "px") => Unit { seconds: false, instant: false },
        () if words.is(at, "exat") => Unit { seconds: true, instant: true },
        () if words.is(at, "pxat") => Unit { seconds: false, instant: true },
        () => return None,
    };
    before.is_none_or(|(before, _)| before == unit).then_some(unit)
}

/// The time at a word of a command that takes none from the past.
pub(super) fn from_now_on(
    command: Name,
    words: Words<'_>,
    at: usize,
    unit: Unit,
    now: Time,
) -> Result<Expiry, Problem> {
    let number = words.integer(at)?;
    let ms = if unit.seconds { number.checked_mul(1_000) } else { Some(number) };
    let ms = ms.filter(|ms| *ms > 0 && (unit.instant || ms.checked_add_unsigned(now).is_some()));
    let ms = ms.ok_or(Problem::ExpireTime { command })?.unsigned_abs();
    Ok(if unit.instant { Expiry::At(ms) } else { Expiry::After(ms) })
}

/// What EXPIRE and its like do to the deadline, and when.
pub(super) fn expire(command: Name, words: Words<'_>, unit: Unit, now: Time) -> Result<(Condition, Expiry), Problem> {
    let condition = expire_condition(words)?;
    let number = words.integer(2)?;
    let invalid = Problem::ExpireTime { command };
    let ms = if unit.seconds { number.checked_mul(1_000) } else { Some(number) }.ok_or(invalid.clone())?;
    // What lies in the past removes the record.
    let past = Expiry::At(0);
    let expiry = match ms {
        ..=0 => past,
        _ if unit.instant => Expiry::At(ms.unsigned_abs()),
        _ if ms.checked_add_unsigned(now).is_none() => return Err(invalid),
        _ => Expiry::After(ms.unsigned_abs()),
    };
    Ok((condition, expiry))
}

fn expire_condition(words: Words<'_>) -> Result<Condition, Problem> {
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    for at in 3..words.len() {
        let option = [("nx", &mut nx), ("xx", &mut xx), ("gt", &mut gt), ("lt", &mut lt)];
        let known = option.into_iter().find(|(name, _)| words.is(at, name));
        *known.ok_or_else(|| Problem::UnknownOption { option: super::problem::shown_last(words.get(at)) })?.1 = true;
    }
    match (nx, xx, gt, lt) {
        (true, true, _, _) | (true, _, true, _) | (true, _, _, true) => Err(Problem::NxOptions),
        (_, _, true, true) => Err(Problem::GtLtOptions),
        (true, ..) => Ok(Condition::IfLasting),
        // What lasts for ever lasts longer than any deadline.
        (_, _, true, _) => Ok(Condition::IfLater),
        (_, true, _, true) => Ok(Condition::IfExpiringSooner),
        (_, _, _, true) => Ok(Condition::IfSooner),
        (_, true, _, _) => Ok(Condition::IfExpiring),
        _ => Ok(Condition::Always),
    }
}
