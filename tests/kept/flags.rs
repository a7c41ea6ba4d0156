//! The flags of a binary, from its help.

use std::process::Command;

/// One line for each flag and argument, with its subcommand and the name of its value.
pub(crate) fn flags(binary: &str) -> Vec<String> {
    let program = binary.rsplit('/').next().unwrap_or(binary);
    let help = help(binary, &[]);
    let mut lines: Vec<_> = specifications(&help)
        .map(|flag| format!("{program} {flag}"))
        .collect();
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        lines.push(format!("{program} {command}"));
        if command != "help" {
            let help = self::help(binary, &[command]);
            lines.extend(specifications(&help).map(|flag| format!("{program} {command} {flag}")));
        }
    }
    lines.sort();
    lines
}

fn help(binary: &str, command: &[&str]) -> String {
    let output = Command::new(binary).args(command).arg("-h").output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// What stands in front of the explanations, as `-d, --duration <TIME>`.
fn specifications(help: &str) -> impl Iterator<Item = &str> {
    let indented = help.lines().filter(|line| line.starts_with("  "));
    let lines = indented.map(str::trim_start);
    let specifications = lines.filter(|line| line.starts_with(['-', '<', '[']));
    specifications.map(|line| line.split("  ").next().unwrap_or(line).trim_end())
}
