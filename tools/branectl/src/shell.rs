//! Completions for shells: the scripts of `clap_complete`, and in addition the names of existing branes,
//! devices and interfaces. The scripts read these names from the hidden command `names`.

use crate::cli::command;
use clap_complete::Shell;
use clap_complete::generate;
use operator_cli::table::Program;

/// Returns the script for a shell. Returns `None` for an unsupported shell.
pub fn script(program: Program, shell: &str) -> Option<String> {
    let name = program.prefix();
    let (of, more) = match shell {
        "bash" => (Shell::Bash, BASH),
        "zsh" => (Shell::Zsh, ZSH),
        "fish" => (Shell::Fish, FISH),
        _ => return None,
    };
    let mut out = Vec::new();
    generate(of, &mut command(program), name, &mut out);
    Some(String::from_utf8_lossy(&out).into_owned() + &more.replace("PROGRAM", name))
}

const BASH: &str = r#"
# Names that exist, besides the words above.
_PROGRAM_names() {
    _PROGRAM "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}"
    local names
    names=$(PROGRAM names "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return 0
    COMPREPLY+=( $(compgen -W "${names}" -- "${cur}") )
}
complete -F _PROGRAM_names -o nosort -o bashdefault -o default PROGRAM
"#;

const ZSH: &str = r#"
# Names that exist, besides the words above.
_PROGRAM_names() {
    local -a names
    names=(${(f)"$(PROGRAM names "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    (( ${#names} )) && compadd -a names
    _PROGRAM "$@"
}
compdef _PROGRAM_names PROGRAM
"#;

const FISH: &str = r#"
# Names that exist, besides the words above.
complete -c PROGRAM -f -a '(PROGRAM names (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
"#;
