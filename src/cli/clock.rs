//! A clock that is wrong on purpose, for tests of real processes. Builds without failpoints refuse it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quorate::host::{Clock, system_clock};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The machine's clock with as many milliseconds added as `file` says, now and whenever it changes. Whoever changes it
/// replaces it whole, by a rename.
///
/// # Errors
/// Not a test build; a file that cannot be read or holds no number.
pub fn with_offset(file: &Path) -> Result<Clock, String> {
    if !fail::has_failpoints() {
        return Err("this build has no failpoints: clocks are wrong in test builds only".into());
    }
    let offset = Arc::new(AtomicI64::new(read(file)?));
    let (clock, shared, file) = (system_clock(), Arc::clone(&offset), file.to_path_buf());
    std::thread::Builder::new()
        .name("clock-offset".into())
        .spawn(move || follow(&file, &shared))
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(move || {
        clock().saturating_add_signed(offset.load(Ordering::Relaxed))
    }))
}

fn read(file: &Path) -> Result<i64, String> {
    let named = |why: String| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| named(e.to_string()))?;
    text.trim()
        .parse()
        .map_err(|e| named(format!("{:?}: {e}", text.trim())))
}

/// Ends with the process. A file that has become unreadable is told once and leaves the clock as it is.
fn follow(file: &Path, offset: &AtomicI64) {
    let mut told = false;
    loop {
        std::thread::sleep(LOOK);
        match read(file) {
            Ok(now) => {
                told = false;
                let before = offset.swap(now, Ordering::Relaxed);
                if before != now {
                    tracing::warn!("the clock's offset goes from {before} to {now} ms");
                }
            }
            Err(why) if !told => {
                told = true;
                tracing::error!("--clock-offset-file: {why}");
            }
            Err(_) => {}
        }
    }
}
