//! `chaosfs completions` and `chaosfs man`: what packagers ask the command line about itself.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::args::Cli;

/// Prints the completion script of one shell.
pub fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "chaosfs", &mut script);
    print(&script)
}

/// Prints one manual page that holds the commands as sections.
pub fn man() -> anyhow::Result<ExitCode> {
    let mut cli = Cli::command();
    cli.build();
    let mut page = Vec::new();
    let man = Man::new(cli.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    // The manual page is the help.
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        page.extend(section(command)?);
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    print(&page)
}

/// One command as a section: what would be sections on a page of its own are subsections here.
fn section(command: &clap::Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let lines = body.lines().filter(|line| !line.contains(".ds Aq"));
    let lines =
        lines.map(|line| line.strip_prefix(".SH ").map_or(line.to_string(), |title| format!(".SS {title}")));
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
    Ok(format!(".SH \"{title}\"\n{}\n", lines.collect::<Vec<_>>().join("\n")).into_bytes())
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
