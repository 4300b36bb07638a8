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

/// A list as on the command line: `allocator,hydrator`; `all` stands for both.
///
/// # Errors
/// One line for people.
impl FromStr for Roles {
    type Err = String;

    fn from_str(list: &str) -> Result<Roles, String> {
        let mut roles = Roles { allocator: false, hydrator: false };
        for name in list.split(',').map(str::trim) {
            match name {
                "all" => roles = Roles::ALL,
                "allocator" => roles.allocator = true,
                "hydrator" => roles.hydrator = true,
                "chaos" => return Err("the role 'chaos' comes in a later release".to_owned()),
                other => {
                    return Err(format!("'{other}' is no role: say allocator, hydrator, both, or all"));
                }
            }
        }
        Ok(roles)
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
        for (list, said) in
            [("", "''"), ("allocator,", "''"), ("leader", "'leader'"), ("chaos", "later release")]
        {
            let why = list.parse::<Roles>().unwrap_err();
            assert!(why.contains(said), "{list}: {why}");
        }
    }
}
