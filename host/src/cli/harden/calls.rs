//! Which system calls are left. An exchange with local keys keeps those of a list; others lose those of a list.
//!
//! A call that is refused fails with EPERM, or with ENOSYS if it is a newer one, so that libraries do without it as on an older kernel. No
//! refusal ends the process: a library may try what it can do without. A call of another architecture does.

mod allowed;
mod refused;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use super::{Needs, Records};

/// What a call's arguments have to be, all of them.
type Conditions<'a> = &'a [Condition];

/// What one argument has to be. All but pointers are compared as the 32 bits that the kernel reads of them.
#[derive(Clone, Copy)]
enum Condition {
    Is(u8, u32),
    IsNot(u8, u32),
    /// All of these bits are set.
    Has(u8, u32),
    /// None of these bits is set.
    Lacks(u8, u32),
    /// These bits (the first number) are those (the second one).
    Masked(u8, u32, u32),
    Null(u8),
    NotNull(u8),
}

impl Condition {
    fn compiled(self) -> Result<SeccompCondition, BackendError> {
        use SeccompCmpArgLen::{Dword, Qword};
        use SeccompCmpOp::{Eq, MaskedEq, Ne};
        let (index, length, comparison, value) = match self {
            Self::Is(index, value) => (index, Dword, Eq, value),
            Self::IsNot(index, value) => (index, Dword, Ne, value),
            Self::Has(index, bits) => (index, Dword, MaskedEq(bits.into()), bits),
            Self::Lacks(index, bits) => (index, Dword, MaskedEq(bits.into()), 0),
            Self::Masked(index, mask, bits) => (index, Dword, MaskedEq(mask.into()), bits),
            Self::Null(index) => (index, Qword, Eq, 0),
            Self::NotNull(index) => (index, Qword, Ne, 0),
        };
        SeccompCondition::new(index, length, comparison, value.into())
    }
}

/// Some calls by number.
#[derive(Default)]
struct Calls {
    /// Whatever their arguments are.
    always: Vec<i64>,
    /// With certain arguments.
    when: BTreeMap<i64, Vec<SeccompRule>>,
}

impl Calls {
    /// Adds a call that is meant on any of these conditions.
    fn when(&mut self, call: i64, any_of: &[Conditions<'_>]) -> Result<(), BackendError> {
        for all_of in any_of {
            let conditions = all_of.iter().map(|condition| condition.compiled()).collect::<Result<_, _>>()?;
            self.when.entry(call).or_default().push(SeccompRule::new(conditions)?);
        }
        Ok(())
    }
}

/// Restricts this thread, and what it starts.
pub(super) fn restrict(needs: Needs, records: &Records) -> Result<(), seccompiler::Error> {
    // Also sees to it that no program that is started gets rights which this one has not (`no_new_privs`).
    seccompiler::apply_filter(&filter(needs, records)?)
}

pub(super) fn filter(needs: Needs, records: &Records) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    match needs {
        // Libraries have to do without calls that are as new as `clone3`.
        Needs::Local => compile(allowed::calls(records)?, SeccompAction::Allow, refused, &[(libc::BPF_JGE, libc::SYS_clone3)]),
        Needs::Network => {
            // What `clone3` is to do is out of a filter's sight. C libraries then take `clone`.
            let absent = [(libc::BPF_JGT, refused::NEWEST), (libc::BPF_JEQ, libc::SYS_clone3)];
            compile(refused::calls(needs)?, refused, SeccompAction::Allow, &absent)
        }
        Needs::Programs => compile(refused::calls(needs)?, refused, SeccompAction::Allow, &[(libc::BPF_JGT, refused::NEWEST)]),
    }
}

/// A filter for listed calls and others. Calls whose numbers compare as `absent` says are answered as by a kernel that lacks them: newer
/// ones, and x32's, which are greater numbers for the same calls.
fn compile(calls: Calls, listed: SeccompAction, others: SeccompAction, absent: &[(u32, i64)]) -> Result<BpfProgram, BackendError> {
    let conditional = SeccompFilter::new(calls.when, others, listed.clone(), std::env::consts::ARCH.try_into()?)?;
    let mut program = BpfProgram::try_from(conditional)?;
    // The library takes five instructions for a call without conditions, and the kernel half a microsecond for each instruction.
    let mut plain = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, CALL_NUMBER)];
    for (comparison, call) in absent {
        plain.push(instruction(libc::BPF_JMP | comparison | libc::BPF_K, 0, 1, number(*call)));
        plain.push(returns(SeccompAction::Errno(libc::ENOSYS.cast_unsigned())));
    }
    for (call, after) in calls.always.iter().zip((0..calls.always.len()).rev()) {
        let to_the_end = u8::try_from(after + 1).expect("a list is shorter than a jump");
        plain.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_the_end, 0, number(*call)));
    }
    plain.push(instruction(libc::BPF_JMP | libc::BPF_JA | libc::BPF_K, 0, 0, 1));
    plain.push(returns(listed));
    program.splice(ARCHITECTURE..ARCHITECTURE, plain);
    Ok(program)
}

/// How many instructions see to it that a call is one of this architecture: the first ones.
const ARCHITECTURE: usize = 3;
/// Where a filter sees it.
const CALL_NUMBER: u32 = 0;

fn number(call: i64) -> u32 {
    u32::try_from(call).expect("numbers of calls are small")
}

fn returns(action: SeccompAction) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action.into())
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("codes are small"), jt, jf, k }
}

/// The bits of a flag of the C library.
const fn bits(flag: i32) -> u32 {
    flag.cast_unsigned()
}
