//! How deep a rule may be: Cedar's parser and validator go down it step by step on the stack, without a limit of their own.

use super::problem::Problem;
use super::tokens::tokens;

/// The most brackets, and `else` branches, within each other.
const MAX_DEPTH: u32 = 64;
/// The most operators, members and brackets of one rule: a chain of them nests, too.
const MAX_STEPS: u32 = 1000;

/// # Errors
/// If a rule is too deep: where it becomes so.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    let (mut depth, mut steps) = (0_u32, 0_u32);
    for (begin, token) in tokens(text) {
        match token {
            "(" | "[" | "{" | "else" => (depth, steps) = (depth + 1, steps + 1),
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "." | "&" | "|" | "!" | "+" | "-" | "*" | "<" | ">" | "=" => steps += 1,
            ";" => (depth, steps) = (0, 0),
            _ => {}
        }
        if depth > MAX_DEPTH || steps > MAX_STEPS {
            let message = format!("this rule is nested deeper than {MAX_DEPTH} levels, or has more than {MAX_STEPS} operators; split it");
            return Err(Problem::at(text, begin, &message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_strings_and_comments_does_not_count() {
        let brackets = "(".repeat(1001);
        assert_eq!(check(&format!("\"\\\"{brackets}\"")), Ok(()));
        assert_eq!(check(&format!("// {brackets}\n(\"\\\\\")")), Ok(()));
        assert!(check(&format!("\"\\\\\"{brackets}")).is_err() && check(&format!("// a\n{brackets}")).is_err());
    }

    #[test]
    fn each_rule_counts_for_itself_and_long_lists_are_no_depth() {
        let rule = format!("permit (principal, action, resource) when {{ {} true }};", "true && ".repeat(400));
        assert_eq!(check(&rule.repeat(5)), Ok(()));
        assert_eq!(check(&format!("[{}]", "Kms::Key::\"local://a\", ".repeat(5000))), Ok(()));
    }
}
