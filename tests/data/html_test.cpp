#include "moe/data/html.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

std::string text_of(const std::string& html) {
  return html_to_text(html, "page.html");
}

} // namespace

TEST_CASE("HTML blocks become paragraphs and lines", "[data]") {
  CHECK(text_of("<p>One\n\t two.</p><p>Three</p>") == "One two.\n\nThree\n");
  CHECK(text_of("<div>a<div>b</div>c</div>") == "a\n\nb\n\nc\n");
  CHECK(text_of("<h1>Title</h1>text <b>bold</b>!<br>next") == "Title\n\ntext bold!\nnext\n");
  CHECK(text_of("<ul><li>a</li><li>b</li></ul>after") == "a\nb\n\nafter\n");
  CHECK(text_of("<dl><dt>term</dt><dd>meaning</dd></dl>") == "term\nmeaning\n");
  CHECK(
      text_of(
          "<table><tr><th>a</th><th>b</th></tr><tr><td><p>c</p></td><td>d</td></tr></table>") ==
      "a b\nc d\n");
  CHECK(text_of("plain") == "plain\n");
}

TEST_CASE("Empty HTML elements leave no trace", "[data]") {
  CHECK(text_of("<p>a</p><p> \n</p><div></div><p>&nbsp;</p><hr><p>b</p>") == "a\n\nb\n");
  CHECK(text_of("<p>a<a id='x'></a> <a id='y'></a> b</p>") == "a b\n");
  CHECK(text_of("<p></p>").empty());
  CHECK(text_of("").empty());
  CHECK(text_of(" \n ").empty());
}

TEST_CASE("Space is kept within pre, without duplicate blank lines", "[data]") {
  CHECK(
      text_of("<p>a</p><pre>\n# if x:\n\t  y  \n\n\n\n  z\n</pre><p>b</p>") ==
      "a\n\n# if x:\n\t  y\n\n  z\n\nb\n");
  CHECK(text_of("<pre>a <b>b\n  c</b> d</pre>") == "a b\n  c d\n");
}

TEST_CASE("Navigation, scripts and the like are dropped", "[data]") {
  CHECK(
      text_of("<html><head><title>T</title><style>s</style></head><body>"
              "<div id='banner'>b</div><ul class=\"docnav top\"><li>next</li></ul>"
              "<script>alert('x')</script><nav>n</nav><p>text</p><!-- comment -->"
              "<p hidden>h</p><div role='navigation'>r</div><noscript>no</noscript>"
              "<div class='toc'>contents</div><footer>f</footer></body></html>") == "text\n");
  CHECK(text_of("<p>word<sup><a href='#n'>1</a></sup>, x<sup>2</sup></p>") == "word, x2\n");
  CHECK(text_of("<body class='toc'>page</body>") == "page\n");
  CHECK(text_of("a<nav>n</nav>b<span class='toc'>c</span>d") == "a\n\nbd\n");
}

TEST_CASE("Entities and encodings become UTF-8", "[data]") {
  CHECK(
      text_of("<p>&lt;a&gt; &amp; &eacute;&#233;&#xe9; &unknown;</p>") ==
      "<a> & \xC3\xA9\xC3\xA9\xC3\xA9 &unknown;\n");
  CHECK(
      text_of("<p>gr\xC3\xBC\xC3\x9F"
              "e\xC2\xA0!</p>") ==
      "gr\xC3\xBC\xC3\x9F"
      "e !\n");
  CHECK(
      text_of("<meta charset='iso-8859-1'><p>gr\xFC\xDF"
              "e</p>") ==
      "gr\xC3\xBC\xC3\x9F"
      "e\n");
  CHECK(
      text_of("<p>so\xC2\xAD"
              "ft\xE2\x80\x8B</p>") == "soft\n");
}

TEST_CASE("XHTML with a prolog and namespaces is read", "[data]") {
  CHECK(
      text_of("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n"
              "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" "
              "\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">"
              "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head>"
              "<title xmlns:d=\"http://docbook.org/ns/docbook\">x</title></head>"
              "<body><div class=\"para\">\n\t\t\tText\n</div></body></html>") == "Text\n");
}

TEST_CASE("Hostile HTML neither loads, expands nor overflows anything", "[data]") {
  CHECK(
      text_of("<!DOCTYPE html [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">"
              "<!ENTITY f SYSTEM \"file:///etc/passwd\">]><p>x &b; &f;</p>")
          .find("root:") == std::string::npos);
  std::string deep;
  for (int i = 0; i < 100000; ++i) {
    deep += "<div>";
  }
  CHECK_NOTHROW(text_of(deep + "x"));
  CHECK_NOTHROW(text_of("<p><b <i></p></b></table></td><pre><![CDATA[x]]></body></p>"));
  CHECK_NOTHROW(text_of(std::string("<p>a\0b</p>", 10)));
  CHECK_NOTHROW(text_of("\xFF\xFE<\x80p>\xC3</p"));
  CHECK_THROWS_WITH(
      text_of(std::string((64 << 20) + 1, 'a')),
      ContainsSubstring("page.html: ") && ContainsSubstring("too many"));
}
