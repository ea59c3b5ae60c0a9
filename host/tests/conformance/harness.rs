//! Runs cases whose names are only known when the program runs, with the command line and the output of Rust's own tests. Nothing is captured.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One trial: it fails if it panics.
pub struct Trial {
    pub name: String,
    pub run: Box<dyn Fn() + Send + Sync>,
}

/// What `cargo test -- …` says.
#[derive(Default)]
struct Arguments {
    /// Parts of names, of which one is wanted; none means all.
    filters: Vec<String>,
    /// Parts of names that aren't wanted.
    skip: Vec<String>,
    /// Names are whole.
    exact: bool,
    /// Only cases that are ignored by default, of which there are none.
    ignored: bool,
    list: bool,
    threads: Option<usize>,
}

impl Arguments {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let (option, value) = argument.split_once('=').map_or((&*argument, None), |(option, value)| (option, Some(value.to_owned())));
            let mut value = || value.clone().or_else(|| rest.next()).ok_or_else(|| format!("{option} needs a value"));
            match option {
                "--exact" => parsed.exact = true,
                "--ignored" => parsed.ignored = true,
                "--list" => parsed.list = true,
                "--skip" => parsed.skip.push(value()?),
                "--test-threads" => parsed.threads = Some(number(&value()?)?),
                // Of these, what is done anyway.
                "--include-ignored" | "--no-capture" | "--nocapture" | "--show-output" | "--test" | "--quiet" | "-q" => {}
                "--color" | "--format" | "-Z" => drop(value()?),
                _ if option.starts_with('-') => return Err(format!("{option} is no option of these tests")),
                _ => parsed.filters.push(argument),
            }
        }
        Ok(parsed)
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |part: &String| if self.exact { name == part } else { name.contains(part) };
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| format!("`{text}` is no number of threads"))
}

/// Runs the cases that the command line names, or lists them. Whether all passed.
pub fn run(cases: Vec<Trial>) -> bool {
    let arguments = Arguments::parse(std::env::args().skip(1)).unwrap_or_else(|error| panic!("{error}"));
    let all = cases.len();
    let cases: Vec<_> = cases.into_iter().filter(|case| arguments.wants(&case.name)).collect();
    if arguments.list {
        cases.iter().for_each(|case| say(&format!("{}: test", case.name)));
        return true;
    }
    say(&format!("\nrunning {} tests", cases.len()));
    let start = Instant::now();
    let failed = run_all(&cases, arguments.threads.unwrap_or_else(threads));
    if !failed.is_empty() {
        say(&format!("\nfailures:\n    {}", failed.join("\n    ")));
    }
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    let (passed, filtered, seconds) = (cases.len() - failed.len(), all - cases.len(), start.elapsed().as_secs_f64());
    say(&format!(
        "\ntest result: {result}. {passed} passed; {} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in {seconds:.2}s\n",
        failed.len()
    ));
    failed.is_empty()
}

/// As many as of Rust's own tests run at once.
fn threads() -> usize {
    let said = std::env::var("RUST_TEST_THREADS").ok().map(|text| number(&text).unwrap_or_else(|error| panic!("{error}")));
    said.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Runs all of them, so many at once, each in a thread of its name; which ones failed.
fn run_all(cases: &[Trial], threads: usize) -> Vec<&str> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(Trial { name, run }) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let passed = std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, run).expect("a thread");
                thread.join().is_ok()
            });
            say(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
            if !passed {
                failed.lock().expect("nothing panics with it").push(&**name);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().expect("nothing panics with it");
    failed.sort_unstable();
    failed
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
