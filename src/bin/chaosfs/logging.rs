//! Where the log goes, and what its lines look like: `time=... level=... client=... t=... event=...`.

use std::{fs::File, io, os::fd::AsFd, panic};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    fmt::{
        self, FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
        writer::BoxMakeWriter,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// Starts the log of this process. Every line is one write of its own and with the system when the event is over: it
/// survives whatever kills the process, and whoever has seen an effect finds its cause in the log.
///
/// # Errors
/// Says that a log is running already.
pub fn start(file: Option<File>, debug: bool) -> anyhow::Result<()> {
    leave_last_words(file.as_ref());
    let writer = match file {
        Some(file) => BoxMakeWriter::new(file),
        None => BoxMakeWriter::new(io::stderr),
    };
    let lines = fmt::layer()
        .event_format(Line)
        .with_writer(writer)
        // A full disk or a closed pipe takes the log, not the client.
        .log_internal_errors(false);
    let wanted = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let subscriber = tracing_subscriber::registry().with(wanted).with(lines);
    // Not `init()`: that would also let in what the libraries below say to the `log` crate.
    tracing::subscriber::set_global_default(subscriber)?;
    log_panics();
    Ok(())
}

/// A process that is aborted has no memory left to make a line of the log with.
fn leave_last_words(file: Option<&File>) {
    let log =
        file.map_or_else(|| io::stderr().as_fd().try_clone_to_owned(), |file| Ok(file.try_clone()?.into()));
    if let Ok(log) = log {
        chaosfs::client::leave_last_words(log, "level=error event=aborted in_flight=");
    }
}

/// In the background nobody sees standard error.
fn log_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tracing::error!("event=panic text={:?}", panic.to_string());
        usual(panic);
    }));
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        to.write_str("time=")?;
        SystemTime.format_time(&mut to)?;
        write!(to, " level={} ", event.metadata().level().as_str().to_ascii_lowercase())?;
        context.field_format().format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}
