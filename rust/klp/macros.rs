// SPDX-License-Identifier: GPL-2.0

//! The macro that declares a patch.

/// Declares a live patch, and with it the kernel module.
///
/// It stands at the root of the crate, in place of `module!`:
///
/// ```text
/// klp::patch! {
///     name: "my_patch",                         // as the module is built: obj-m := my-patch.o
///     authors: ["Somebody"],                    // optional
///     description: "Live patch of something",   // optional
///     license: "GPL",
///     imports_ns: ["NAMESPACE"],                // optional, as in `module!`
///     params: { ... },                          // optional, as in `module!`
///     replace: true,                            // optional: replace all enabled patches
///     states: [Level],                          // optional: types that implement `State`
///     // SAFETY: Why nobody uses the variables when the module is unloaded or refused.
///     shadows: unsafe [LEAK],                   // optional: statics, freed with the module
///     objects: {
///         vmlinux {
///             callbacks: Announce,              // optional: a type that implements `Callbacks`
///             // SAFETY: Why the replacement is fit for the function: see below.
///             unsafe vfs_read(file, buf, count, pos) => my_read,
///             // SAFETY: Why it fits, and is for the second function of this name.
///             unsafe show(seq, v) at 2 => my_show,
///             #[cfg(CONFIG_COMPAT)]             // optional; for objects too
///             // SAFETY: Why it fits the parameters that the compiler has left.
///             unsafe "do_thing.constprop.0"(x) => my_do_thing,
///         }
///         module "usb_storage" {
///             // SAFETY: Why it fits the function of this module.
///             unsafe show(dev) => my_usb_show,
///         }
///     },
/// }
/// ```
///
/// A function stands with its parameters, of which only the number counts, and the path of its
/// replacement. `at` says which one is meant if the kernel or the module has several functions of
/// the name, in the order of their addresses (in a module: of its symbol table). A name that is not
/// one in Rust is in quotes, and one that is a keyword is written like `r#type`.
///
/// These do not compile: an object without functions and callbacks, a function, an object or a
/// state that is there twice, positions from 0, names that no module or function can have, and
/// replacements that are not `extern "C"` functions or differ in the number of parameters. Where
/// the kernel's bindings declare a function of the name, its type must be the replacement's, unless
/// there is a position. A function of a module that only has the name of that one is in quotes. For
/// others, such as static functions, the compiler knows no type: look at the source of the running
/// kernel, and let `klp check` compare it with the types in the kernel's debugging information.
///
/// # Safety
///
/// All of the kernel calls the replacement from now on. `unsafe` before a function says, and the
/// comment above it why:
///
/// * The **type** is that of the function in the kernel or module that is patched, as compiled:
///   the parameters, the result and how they are passed.
/// * The **contract** is the same: the replacement demands no more of its callers than the original
///   does, and does for them what they rely on, for example with locks, references and memory.
/// * The **context** is any that the original is called in, such as one that must not sleep. While
///   a transition runs, other tasks run the original at the same time; what both use must bear it.
/// * **The replacement stays on the stack** while code of this module runs for it. By the stack of
///   a task the core knows whether the module may go, and looks for replacements, not for what they
///   call. If the replacement ends with a call of a function of this module, the compiler may turn
///   it into a jump, after which the replacement is not on the stack. Put the code of such a
///   function into the replacement (`#[inline(always)]`), or do something after the call, such as
///   to pass its result to [`core::hint::black_box`].
///
/// `unsafe` in `shadows` says that when the module is unloaded, or the kernel refuses it, nobody
/// uses variables with these identifiers, nor will: see
/// [`FreeAll::free_all`](crate::FreeAll::free_all).
///
/// # Names
///
/// Besides what `module!` defines, the crate gets the items `KlpPatch`, `KLP_PATCH`, `KLP_OBJECTS`,
/// `KLP_STATES` and `KLP_MODINFO` in its root, which are nobody else's business.
///
/// # States
///
/// `states` need `replace: true`, since a state is handed from the patch that is replaced to the
/// one that replaces it.
#[macro_export]
macro_rules! patch {
    ($($declaration:tt)*) => {
        $crate::__klp_declaration! { @name $($declaration)* }
    };
}

/// Takes the keys one by one, in their order: first what `module!` gets, then the rest.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_declaration {
    (@name name: $name:literal, $($rest:tt)*) => {
        $crate::__klp_declaration! { @authors $name { name: $name, } $($rest)* }
    };
    (@name $($rest:tt)*) => {
        ::core::compile_error! {
            "klp: a patch starts with its name, which is that of the module: `name: \"my_patch\",`"
        }
    };

    (@authors $name:literal { $($module:tt)* } authors: $value:tt, $($rest:tt)*) => {
        $crate::__klp_declaration! {
            @description $name { $($module)* authors: $value, } $($rest)*
        }
    };
    (@authors $($rest:tt)*) => {
        $crate::__klp_declaration! { @description $($rest)* }
    };

    (@description $name:literal { $($module:tt)* } description: $value:literal, $($rest:tt)*) => {
        $crate::__klp_declaration! {
            @license $name { $($module)* description: $value, } $($rest)*
        }
    };
    (@description $($rest:tt)*) => {
        $crate::__klp_declaration! { @license $($rest)* }
    };

    (@license $name:literal { $($module:tt)* } license: $value:literal, $($rest:tt)*) => {
        const _: () = $crate::__klp_check!(
            $crate::private::is_gpl($value),
            "klp: the license must be compatible with the GPL, such as \"GPL\": the kernel lets no \
             other module use its livepatch functions",
        );
        $crate::__klp_declaration! { @imports $name { $($module)* license: $value, } $($rest)* }
    };
    (@license $name:literal { $($module:tt)* } license: $($rest:tt)*) => {
        ::core::compile_error! { "klp: the license is a text: `license: \"GPL\",`" }
    };
    (@license $name:literal $module:tt imports_ns $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt params $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt replace $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt states $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt shadows $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt objects $($rest:tt)*) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt) => {
        $crate::__klp_no_license! {}
    };
    (@license $name:literal $module:tt $key:tt $($rest:tt)*) => {
        $crate::__klp_misplaced! { license $key }
    };

    (@imports $name:literal { $($module:tt)* } imports_ns: $value:tt, $($rest:tt)*) => {
        $crate::__klp_declaration! {
            @params $name { $($module)* imports_ns: $value, } $($rest)*
        }
    };
    (@imports $($rest:tt)*) => {
        $crate::__klp_declaration! { @params $($rest)* }
    };

    (@params $name:literal { $($module:tt)* } params: $value:tt, $($rest:tt)*) => {
        $crate::__klp_declaration! { @replace $name { $($module)* params: $value, } $($rest)* }
    };
    (@params $($rest:tt)*) => {
        $crate::__klp_declaration! { @replace $($rest)* }
    };

    (@replace $name:literal $module:tt replace: $value:literal, $($rest:tt)*) => {
        $crate::__klp_declaration! { @states $name $module $value $($rest)* }
    };
    (@replace $name:literal $module:tt $($rest:tt)*) => {
        $crate::__klp_declaration! { @states $name $module false $($rest)* }
    };

    (@states $name:literal $module:tt $replace:literal states: $value:tt, $($rest:tt)*) => {
        $crate::__klp_declaration! { @shadows $name $module $replace $value $($rest)* }
    };
    (@states $name:literal $module:tt $replace:literal $($rest:tt)*) => {
        $crate::__klp_declaration! { @shadows $name $module $replace [] $($rest)* }
    };

    (@shadows $name:literal $module:tt $replace:literal $states:tt
        shadows: unsafe $value:tt, $($rest:tt)*
    ) => {
        $crate::__klp_declaration! { @objects $name $module $replace $states $value $($rest)* }
    };
    (@shadows $name:literal $module:tt $replace:literal $states:tt
        shadows: [ $($shadow:tt)* ], $($rest:tt)*
    ) => {
        ::core::compile_error! {
            "klp: nobody may use shadow variables that are freed: say so with `shadows: unsafe \
             [...]`"
        }
    };
    (@shadows $name:literal $module:tt $replace:literal $states:tt $($rest:tt)*) => {
        $crate::__klp_declaration! { @objects $name $module $replace $states [] $($rest)* }
    };

    (@objects $name:literal $module:tt $replace:literal $states:tt $shadows:tt
        objects: {} $(,)?
    ) => {
        ::core::compile_error! {
            "klp: the patch has no object: add `vmlinux { ... }` or `module \"name\" { ... }` to \
             `objects`"
        }
    };
    (@objects $name:literal $module:tt $replace:literal $states:tt $shadows:tt
        objects: { $($objects:tt)* } $(,)?
    ) => {
        $crate::__klp_module! { $name $module $shadows }
        $crate::__klp_objects! { $replace $states [] $($objects)* }
    };
    (@objects $name:literal $module:tt $replace:literal $states:tt $shadows:tt
        objects $($rest:tt)*
    ) => {
        ::core::compile_error! {
            "klp: the objects are the last entry, in braces: `objects: { vmlinux { ... } }`"
        }
    };
    (@objects $name:literal $module:tt $replace:literal $states:tt $shadows:tt
        $key:tt $($rest:tt)*
    ) => {
        $crate::__klp_misplaced! { objects $key }
    };
    (@objects $($rest:tt)*) => {
        ::core::compile_error! {
            "klp: what the patch changes is missing: `objects: { vmlinux { ... } }`"
        }
    };
}

/// The license is missing.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_no_license {
    () => {
        ::core::compile_error! { "klp: the license is missing: `license: \"GPL\",`" }
    };
}

/// A key where another one should be.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_misplaced {
    ($expected:ident $key:tt) => {
        ::core::compile_error! {
            ::core::concat!(
                "klp: `", ::core::stringify!($key), "` is unknown, is there twice, has a value of ",
                "another kind, or stands where `", ::core::stringify!($expected), "` should; the ",
                "keys are, in this order: name, authors, description, license, imports_ns, ",
                "params, replace, states, shadows, objects",
            )
        }
    };
}

/// The kernel module.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_module {
    ($name:literal { $($module:tt)* } [ $($shadow:path),* $(,)? ]) => {
        ::kernel::prelude::module! {
            type: KlpPatch,
            $($module)*
        }

        const _: () = $crate::__klp_check!(
            $crate::private::is_built_as($name, ::core::option_env!("RUST_MODFILE")),
            "klp: the patch is named \"", $name, "\", but is built as a module of another ",
            "name, which is the one that counts: give it the name of its file, with `_` for `-`",
        );

        /// The module is marked as a live patch.
        #[used(compiler)]
        #[link_section = ".modinfo"]
        static KLP_MODINFO: [u8; 12] = *b"livepatch=Y\0";

        /// The module of the patch. Public, since public states refer to it.
        #[doc(hidden)]
        pub struct KlpPatch {
            _enabled: $crate::private::Enabled,
        }

        // SAFETY: `init` enables this patch.
        unsafe impl $crate::private::PatchModule for KlpPatch {
            #[inline]
            fn patch() -> &'static $crate::private::Patch {
                &KLP_PATCH
            }
        }

        impl ::kernel::Module for KlpPatch {
            #[inline]
            fn init(_module: &'static ::kernel::ThisModule) -> ::kernel::error::Result<Self> {
                // SAFETY: The lists below are static and end with empty entries.
                unsafe { KLP_PATCH.enable(|_enabled| Self { _enabled }) }
            }
        }

        $crate::__klp_free! { $($shadow)* }
    };
}

/// Frees shadow variables with the module.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_free {
    () => {};
    ($($shadow:path)+) => {
        impl ::core::ops::Drop for KlpPatch {
            fn drop(&mut self) {
                $(
                    // SAFETY: This value is dropped when the module is unloaded or the core has
                    // refused the patch, and no task runs its code then; that nobody else uses the
                    // variables is what `unsafe` says.
                    unsafe { $crate::FreeAll::free_all(&$shadow) };
                )+
            }
        }
    };
}

/// Takes the objects one by one, and at last declares the patch.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_objects {
    ($replace:literal $states:tt [ $($done:tt)* ]
        $(#[$meta:meta])* vmlinux { $($body:tt)* } $($rest:tt)*
    ) => {
        $crate::__klp_objects! {
            $replace $states [ $($done)* { $(#[$meta])* vmlinux "vmlinux" { $($body)* } } ]
            $($rest)*
        }
    };
    ($replace:literal $states:tt [ $($done:tt)* ]
        $(#[$meta:meta])* module $name:literal { $($body:tt)* } $($rest:tt)*
    ) => {
        const _: () = {
            $crate::__klp_check!(
                !$crate::private::has_dash($name),
                "klp: the kernel knows no module \"", $name, "\": modules have `_` in their ",
                "names where their files have `-`",
            );
            $crate::__klp_check!(
                $crate::private::is_module($name),
                "klp: no module can have the name \"", $name, "\"",
            );
            $crate::__klp_check!(
                !$crate::private::has($name, &["vmlinux"]),
                "klp: the kernel itself is no module: write `vmlinux { ... }`",
            );
        };
        $crate::__klp_objects! {
            $replace $states [ $($done)* { $(#[$meta])* module $name { $($body)* } } ] $($rest)*
        }
    };
    ($replace:literal $states:tt
        [ $({ $(#[$meta:meta])* $kind:ident $name:literal $body:tt })+ ]
    ) => {
        #[allow(unused_doc_comments)]
        const KLP_OBJECTS: &[&str] = &[$($(#[$meta])* $name),+];
        $(
            $(#[$meta])*
            const _: () = $crate::__klp_check!(
                $crate::private::is_unique_object($name, KLP_OBJECTS),
                "klp: the object ", $name, " is there twice: put its functions together",
            );
        )+

        $crate::__klp_states! { $replace $states }

        /// The patch, for the core.
        static KLP_PATCH: $crate::private::Patch = {
            #[allow(unused_doc_comments)]
            static OBJECTS: $crate::private::Table<
                $crate::private::klp_object,
                { KLP_OBJECTS.len() + 1 },
            > = $crate::private::Table::new([
                $( $(#[$meta])* { $crate::__klp_object!($kind $name $states $body) }, )+
                $crate::private::end(),
            ]);
            $crate::private::Patch::new(OBJECTS.as_ptr(), KLP_STATES.as_ptr(), $replace)
        };
    };
    ($replace:literal $states:tt [ $($done:tt)* ] $($rest:tt)+) => {
        ::core::compile_error! {
            ::core::concat!(
                "klp: an object is `vmlinux { ... }` or `module \"name\" { ... }`, not `",
                ::core::stringify!($($rest)+), "`",
            )
        }
    };
}

/// The states of the patch.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_states {
    ($replace:literal [ $($state:ty),* $(,)? ]) => {
        const _: () = {
            const STATES: &[usize] = &[$(<$state as $crate::State>::ID),*];
            $crate::__klp_check!(
                STATES.is_empty() || $replace,
                "klp: a patch with states needs `replace: true`: they are handed from the patch \
                 that is replaced to the one that replaces it",
            );
            $crate::__klp_check!(
                STATES.is_empty() || $crate::private::has("vmlinux", KLP_OBJECTS),
                "klp: a patch with states needs the object `vmlinux {}`, whose callbacks take care \
                 of them",
            );
            $(
                $crate::__klp_check!(
                    <$state as $crate::State>::ID != 0 && <$state as $crate::State>::VERSION != 0,
                    "klp: the identifier and the version of `", ::core::stringify!($state),
                    "` must not be 0",
                );
                $crate::__klp_check!(
                    $crate::private::is_unique_state(<$state as $crate::State>::ID, STATES),
                    "klp: another state has the identifier of `", ::core::stringify!($state),
                    "`: give each its own",
                );
                $crate::__klp_check!(
                    $crate::private::is_older::<$state>(),
                    "klp: `Older` of `", ::core::stringify!($state), "` must have the same ",
                    "identifier and a lower version, or be `klp::Never`",
                );
            )*
        };

        $(
            impl $crate::Declared for $state {
                type Module = KlpPatch;
            }
        )*

        /// The states, for the core.
        static KLP_STATES: $crate::private::Table<
            $crate::private::klp_state,
            { <[usize]>::len(&[$(<$state as $crate::State>::ID),*]) + 1 },
        > = $crate::private::Table::new([
            $(
                $crate::private::state(
                    <$state as $crate::State>::ID,
                    <$state as $crate::State>::VERSION,
                ),
            )*
            $crate::private::end(),
        ]);
    };
    ($replace:literal $($rest:tt)*) => {
        ::core::compile_error! {
            "klp: the states are types that implement `klp::State`: `states: [Level],`"
        }
    };
}

/// The entry of an object.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_object {
    (module $name:literal $states:tt $body:tt) => {
        $crate::__klp_object!(@body module $name () $body)
    };
    (vmlinux $name:literal [] $body:tt) => {
        $crate::__klp_object!(@body vmlinux $name () $body)
    };
    (vmlinux $name:literal [ $($state:ty),+ $(,)? ] $body:tt) => {
        $crate::__klp_object!(@body vmlinux $name ($crate::__klp_list!($($state),+)) $body)
    };

    (@name module $name:literal) => {
        ::core::option::Option::Some($crate::__klp_c_str!($name))
    };
    (@name vmlinux $name:literal) => {
        ::core::option::Option::None
    };

    (@body $kind:ident $name:literal ($($states:tt)*) {
        callbacks: $callbacks:ty $(, $($functions:tt)*)?
    }) => {
        $crate::private::object(
            $crate::__klp_object!(@name $kind $name),
            $crate::__klp_functions!($kind $name $($($functions)*)?),
            $crate::private::callbacks::<KlpPatch, ($($states)*), $callbacks>(),
        )
    };
    (@body $kind:ident $name:literal () {}) => {
        ::core::compile_error!(::core::concat!(
            "klp: nothing is patched in ", $name, ": add a function, `unsafe old(a, b) => new,`, ",
            "or `callbacks: Type`",
        ))
    };
    (@body $kind:ident $name:literal () { $($functions:tt)* }) => {
        $crate::private::object(
            $crate::__klp_object!(@name $kind $name),
            $crate::__klp_functions!($kind $name $($functions)*),
            $crate::private::end(),
        )
    };
    (@body $kind:ident $name:literal ($($states:tt)+) { $($functions:tt)* }) => {
        $crate::private::object(
            $crate::__klp_object!(@name $kind $name),
            $crate::__klp_functions!($kind $name $($functions)*),
            $crate::private::callbacks::<KlpPatch, $($states)+, ()>(),
        )
    };
}

/// A list of the functions of an object.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_functions {
    ($kind:ident $object:literal
        $(
            $(#[$meta:meta])*
            unsafe $old:tt ( $($argument:tt),* $(,)? ) $(at $position:literal)? => $new:expr
        ),* $(,)?
    ) => {{
        #[allow(unused_doc_comments)]
        const NAMES: &[$crate::private::Name] = &[
            $(
                $(#[$meta])*
                (
                    $crate::private::plain($crate::__klp_name!($old)),
                    $crate::__klp_position!($($position)?),
                ),
            )*
        ];
        $(
            $(#[$meta])*
            const _: () = {
                $crate::__klp_check!(
                    $crate::private::is_symbol($crate::__klp_name!($old)),
                    "klp: no function can have the name `", $crate::__klp_name!($old), "`",
                );
                $(
                    $crate::__klp_check!(
                        $position != 0,
                        "klp: the position of `", $crate::__klp_name!($old), "` is 0, but the ",
                        "first function of a name is `at 1`",
                    );
                )?
                $crate::__klp_check_name!($kind $old);
            };
        )*
        // One loop for all, since the compiler evaluates constants slowly.
        #[allow(unused_doc_comments)]
        const _: () = match $crate::private::clash(NAMES) {
            $crate::private::Clash::None => {}
            $crate::private::Clash::Twice(index) => {
                const TEXTS: &[&str] = &[
                    $(
                        $(#[$meta])*
                        {
                            ::core::concat!(
                                "klp: `", $crate::__klp_name!($old), "` is patched twice in ",
                                $object, ": a function has one replacement; for several functions ",
                                "of the name, say which one with `at 1`, `at 2`",
                            )
                        },
                    )*
                ];
                ::core::panic!("{}", TEXTS[index]);
            }
            $crate::private::Clash::NoPosition(index) => {
                const TEXTS: &[&str] = &[
                    $(
                        $(#[$meta])*
                        {
                            ::core::concat!(
                                "klp: several functions `", $crate::__klp_name!($old), "` are ",
                                "patched in ", $object, ": say for each which one, with `at 1`, ",
                                "`at 2`",
                            )
                        },
                    )*
                ];
                ::core::panic!("{}", TEXTS[index]);
            }
        };
        // Compiles if each replacement has the type of the original. Never called.
        #[allow(
            clippy::unused_unit,
            unused_assignments,
            unused_doc_comments,
            unused_imports,
            unused_variables
        )]
        const _: fn() = || {
            let mut originals = {
                // What the bindings declare hides these.
                $(
                    $(#[$meta])*
                    $crate::__klp_default_type!($old ($($argument),*) $new $(, $position)?);
                )*
                {
                    // Once for all, since it takes the compiler a while.
                    use ::kernel::bindings::*;
                    ($(
                        $(#[$meta])*
                        {
                            let original: unsafe extern "C" fn(
                                $($crate::__klp_any!($argument)),*
                            ) -> _ = $crate::__klp_original!($old $(, $position)?);
                            original
                        },
                    )*)
                }
            };
            originals = ($($(#[$meta])* $new,)*);
        };
        #[allow(unused_doc_comments)]
        static FUNCS: $crate::private::Table<
            $crate::private::klp_func,
            { NAMES.len() + 1 },
        > = $crate::private::Table::new([
            $(
                $(#[$meta])*
                {
                    let name = $crate::__klp_c_str!($crate::__klp_name!($old));
                    let replacement = $new as *const ();
                    // SAFETY: The author says that the replacement is fit, by `unsafe`.
                    unsafe {
                        $crate::private::func(
                            name,
                            $crate::__klp_position!($($position)?),
                            replacement,
                        )
                    }
                },
            )*
            $crate::private::end(),
        ]);
        FUNCS.as_ptr()
    }};
    ($kind:ident $object:literal $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "klp: the functions of ", $object, " are like `unsafe old(a, b) => new,` or, if the ",
            "name is not unique, `unsafe old(a, b) at 2 => new,`, and `callbacks: Type,` comes ",
            "first; not `", ::core::stringify!($($rest)*), "`",
        ))
    };
}

/// Checks that a name in quotes needs them, since the types of such functions are not compared.
///
/// In a module, it may be the name of another function in the kernel's bindings.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_check_name {
    (vmlinux $name:literal) => {
        $crate::__klp_check!(
            !$crate::private::is_identifier($name),
            "klp: `",
            $name,
            "` needs no quotes, with which nobody compares the types: write it ",
            "without them, or `r#",
            $name,
            "` if it is a keyword of Rust",
        );
    };
    ($kind:ident $name:tt) => {};
}

/// A function of the replacement's type, for the case that the bindings declare none of the name.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_default_type {
    ($name:ident ($($argument:tt),*) $new:expr) => {
        let $name: unsafe extern "C" fn($($crate::__klp_any!($argument)),*) -> _ = $new;
    };
    ($($other:tt)*) => {};
}

/// The function whose type the replacement must have, if its name says which one that is.
///
/// Of several functions of a name, nobody knows which one the bindings declare.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_original {
    ($name:ident) => {
        $name
    };
    ($name:tt $(, $position:literal)?) => {
        $crate::private::undeclared()
    };
}

/// What must be true of a declaration, and the text of the error if it is not.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_check {
    ($condition:expr, $($text:expr),+ $(,)?) => {
        if !$condition {
            ::core::panic!("{}", ::core::concat!($($text),+));
        }
    };
}

/// Any type, for a parameter.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_any {
    ($argument:tt) => {
        _
    };
}

/// The name of a function as a string.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_name {
    ($name:ident) => {
        ::core::stringify!($name)
    };
    ($name:literal) => {
        $name
    };
}

/// A position, or 0 if there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_position {
    () => {
        0
    };
    ($position:literal) => {
        $position
    };
}

/// A list of types as nested tuples.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_list {
    () => {
        ()
    };
    ($first:ty $(, $rest:ty)*) => {
        ($first, $crate::__klp_list!($($rest),*))
    };
}

/// A string for C.
#[doc(hidden)]
#[macro_export]
macro_rules! __klp_c_str {
    ($text:expr) => {
        $crate::private::c_str(::core::concat!($text, "\0"))
    };
}
