//! What a process does.

use std::fmt;
use std::str::FromStr;

/// The roles of one process: one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers requests.
    pub allocator: bool,
    /// Fills the pods ahead of time.
    pub hydrator: bool,
}

impl Roles {
    /// Allocator and hydrator.
    pub const ALL: Roles = Roles { allocator: true, hydrator: true };

    /// `allocator`, `hydrator`, or both, as the status shows them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = [(self.allocator, "allocator"), (self.hydrator, "hydrator")];
        named.into_iter().filter_map(|(has, name)| has.then_some(name))
    }
}

/// A list as on the command line, of roles that serve.
///
/// # Errors
/// One line for people.
impl FromStr for Roles {
    type Err = String;

    fn from_str(list: &str) -> Result<Roles, String> {
        let named: Named = list.parse()?;
        if named.chaos { Err("the role chaos doesn't serve".to_owned()) } else { Ok(named.roles) }
    }
}

/// What `--role` names: roles that serve, and whether the role chaos runs beside them, which injures the process that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// One at least.
    pub roles: Roles,
    /// Never unless it is named.
    pub chaos: bool,
}

/// A list as on the command line: `allocator,hydrator`; `all` stands for both, and never for `chaos`.
///
/// # Errors
/// One line for people.
impl FromStr for Named {
    type Err = String;

    fn from_str(list: &str) -> Result<Named, String> {
        let mut roles = Roles { allocator: false, hydrator: false };
        let mut chaos = false;
        for name in list.split(',').map(str::trim) {
            match name {
                "all" => roles = Roles::ALL,
                "allocator" => roles.allocator = true,
                "hydrator" => roles.hydrator = true,
                "chaos" => chaos = true,
                other => {
                    return Err(format!(
                        "'{other}' is no role: say allocator, hydrator, both, or all, and chaos beside them"
                    ));
                }
            }
        }
        if !roles.allocator && !roles.hydrator {
            return Err("the role chaos has nothing to injure by itself: say all,chaos".to_owned());
        }
        Ok(Named { roles, chaos })
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_it_is_shown() {
        for list in ["allocator", "hydrator", "allocator,hydrator"] {
            assert_eq!(list.parse::<Roles>().unwrap().to_string(), list);
        }
        assert_eq!("all".parse(), Ok(Roles::ALL));
        assert_eq!(" hydrator , allocator ".parse(), Ok(Roles::ALL));
    }

    #[test]
    fn what_is_no_role_is_refused_by_name() {
        for (list, said) in [("", "''"), ("allocator,", "''"), ("leader", "'leader'"), ("chaos", "all,chaos")]
        {
            let why = list.parse::<Named>().unwrap_err();
            assert!(why.contains(said), "{list}: {why}");
        }
    }

    #[test]
    fn chaos_runs_beside_other_roles_and_only_where_it_is_named() {
        assert_eq!("all".parse(), Ok(Named { roles: Roles::ALL, chaos: false }));
        assert_eq!("chaos,all".parse(), Ok(Named { roles: Roles::ALL, chaos: true }));
        assert!("all,chaos".parse::<Roles>().is_err());
    }
}
