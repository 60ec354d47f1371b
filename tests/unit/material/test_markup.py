"""What is left of markup is what a reader sees."""

from material.markup import (
    aiml_exchanges,
    gettext_translations,
    html_paragraphs,
    rst_paragraphs,
    unwrapped,
    wikitext_paragraphs,
)


def test_wikitext() -> None:
    source = """{{Infobox | name = {{nested}} }}
'''Albedo''' ({{IPA|al}}), [[Latin language|Latin]] ''albedo''<ref name="a">A [[book]].</ref> of [[snow]]; {{cvt|3|km}}.
[[File:Snow.jpg|thumb|A picture of [[snow]]]]
==Empty==
===Filled===
More prose&nbsp;here, see [http://example.org an example].
* a list
{| class="wikitable"
| a table
|}
== See also ==
Left out.
"""
    assert wikitext_paragraphs(source) == [
        "Albedo, Latin albedo of snow; 3 km.",
        "Filled",
        "More prose here, see an example.",
    ]


def test_unwrapped_lines() -> None:
    # the second line has room for the first word of the third, which is therefore another paragraph
    text = "one two three\nfour\nfive six\nseven eight n\n\nten\n"
    assert unwrapped(text, 13) == ["one two three four", "five six seven eight n", "ten"]


def test_rst() -> None:
    source = """
.. _label:

Title
=====

.. function:: solve(x)

    Solves :math:`x^2 = 1`  with ``x`` of :class:`Matrix <pkg.Matrix>`, see
    :eq:`e-one` and *this*::

        code

    more prose

    .. math::
        :label: e-one

        a = b

        c = d

    >>> doctest
    output

.. image:: picture.png
   :width: 3
"""
    assert rst_paragraphs(source) == [
        "Title",
        r"Solves $x^2 = 1$ with `x` of Matrix, see \eqref{e-one} and this:",
        "more prose",
        r"\[ a = b c = d \]",
    ]


def test_html() -> None:
    source = """<h1>Title</h1><p>Some <b>bold</b>
 words &amp; more<pre>code</pre></p><table><p>cell</p></table>loose<li>point</li>"""
    assert html_paragraphs(source) == ["Title", "Some bold words & more", "point"]


def test_aiml() -> None:
    source = """<category><pattern>WHAT IS AI</pattern>
<template>Artificial <set name="it">intelligence</set>.<think><set name="x">y</set></think></template></category>
<category><pattern>HELLO *</pattern><template>No wildcards.</template></category>
<category><pattern>WHO</pattern><template><srai>WHAT IS AI</srai></template></category>
<category><pattern>HOW</pattern><template><random><li>Well &amp;<br/>good.</li>
 <li>Bad.</li></random></template></category>"""
    assert aiml_exchanges(source) == [("what is ai", "Artificial intelligence."), ("how", "Well & good.")]


def test_gettext() -> None:
    source = r"""msgid ""
msgstr "Project: x\n"

#: somewhere.py
msgid "A <b>b</b>"
msgstr ""
"Ein <b>\"B\"</b>\n"
"und mehr"

#, fuzzy
msgid "C"
msgstr "Unsicher"

msgid "D"
msgid_plural "Ds"
msgstr[0] "Eins"
msgstr[1] "Viele"
"""
    assert gettext_translations(source) == ['Ein "B"\nund mehr']
