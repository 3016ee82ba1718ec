//! Completions and the manual page know every command that can be typed, whoever added it.

use crate::program::Home;

/// The commands below `path`, as help lists them.
fn commands(home: &Home, path: &[&str]) -> Vec<String> {
    let ran = home.run(path.iter().chain(&["--help"])).expect(0);
    let text = ran.out();
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    // Two spaces, the name, and what it does; what is indented further goes on with the line before.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_is_in_the_completions_and_on_the_page() {
    let home = Home::new();
    let scripts: Vec<(&str, String)> = ["bash", "zsh", "fish", "elvish", "powershell"]
        .map(|shell| (shell, home.run(["completions", shell]).expect(0).out().to_owned()))
        .into_iter()
        .collect();
    // roff writes a hyphen with a backslash.
    let page = home.run(["man"]).expect(0).out().replace('\\', "");
    let top = commands(&home, &[]);
    assert!(top.len() > 15 && top.contains(&"completions".to_owned()), "{top:?}");
    for command in &top {
        let below = commands(&home, &[command]);
        for name in std::iter::once(command).chain(&below) {
            for (shell, script) in &scripts {
                assert!(script.contains(name.as_str()), "{shell} does not complete {command} {name}");
            }
        }
        assert!(page.contains(&format!("cachekit {command}")), "no section of {command}");
        for name in &below {
            assert!(page.contains(&format!("cachekit {command} {name}")), "no section of {command} {name}");
        }
    }
    // The control: what cannot be typed is in neither.
    assert!(!page.contains("cachekit frobnicate") && scripts.iter().all(|(_, script)| !script.contains("frobnicate")));
    let case = "plugin case";
    assert!(!page.contains(&format!("cachekit {case}")), "a hidden command has no section");
    home.run(["completions", "csh"]).expect(2);
}
