//! Calls that a storage does not have.

use std::fmt;

use crate::{
    error::{Error, Refusal},
    operation::Operation,
};

/// What each call that the storage does not have answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(Vec<(Operation, Error)>);

impl Refused {
    /// What a call answers, if it is refused.
    pub fn error(&self, operation: Operation) -> Option<Error> {
        self.0.iter().find(|(refused, _)| *refused == operation).map(|(_, error)| *error)
    }

    /// Reads `none`, or calls with what they answer: `link=EPERM+setxattr=ENOTSUP`.
    ///
    /// # Errors
    /// Names the call or the errno that there is not.
    pub fn parse(text: &str) -> Result<Refused, Refusal> {
        if text == "none" {
            return Ok(Refused::default());
        }
        let one = |text: &str| {
            let wrong = |what: &str| {
                Refusal::new(format!("`{text}`: {what}; write a call and an errno, such as `link=EPERM`"))
            };
            let (call, errno) = text.split_once('=').ok_or_else(|| wrong("it has no `=`"))?;
            let operation = Operation::ALL.into_iter().find(|operation| operation.to_string() == call);
            let operation = operation.ok_or_else(|| wrong("there is no such call"))?;
            let error = Error::of_symbol(errno).ok_or_else(|| wrong("there is no such errno here"))?;
            Ok((operation, error))
        };
        text.split('+').map(one).collect::<Result<_, _>>().map(Refused)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(operation, error): &(Operation, Error)| format!("{operation}={}", error.symbol());
        match self.0.as_slice() {
            [] => f.write_str("none"),
            refused => f.write_str(&refused.iter().map(one).collect::<Vec<_>>().join("+")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_read_as_it_is_written() {
        let refused = Refused::parse("link=EPERM+setxattr=EOPNOTSUPP").expect("it is right");
        assert_eq!(refused.to_string(), "link=EPERM+setxattr=EOPNOTSUPP");
        assert_eq!(refused.error(Operation::Link), Some(Error::NotPermitted));
        assert_eq!((refused.error(Operation::Unlink), Refused::default().to_string()), (None, "none".into()));
        for (text, reason) in [
            ("link", "it has no `=`"),
            ("fly=EIO", "there is no such call"),
            ("link=EWHAT", "there is no such errno"),
        ] {
            let refusal = Refused::parse(text).expect_err(text).to_string();
            assert!(refusal.starts_with(&format!("`{text}`: {reason}")), "{refusal}");
        }
    }
}
